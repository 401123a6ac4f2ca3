import { isFieldSet } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProtoSchema,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  type FileDescriptorProto,
  type ServiceDescriptorProto,
} from "@bufbuild/protobuf/wkt";

/**
 * What of an interface file reaches the wire, one line a fact, sorted: fields with number, type and
 * label, enum values, methods with the types they take and give. Comments, options and reserved
 * numbers are not on the wire.
 */
export function wireFacts(file: FileDescriptorProto): string[] {
  const facts = [
    ...file.messageType.flatMap((message) => messageFacts(message, file.package)),
    ...file.enumType.flatMap((values) => enumFacts(values, file.package)),
    ...file.service.flatMap((service) => serviceFacts(service, file.package)),
  ];
  return facts.toSorted();
}

function messageFacts(message: DescriptorProto, scope: string): string[] {
  const name = `${scope}.${message.name}`;
  return [
    `message ${name}`,
    ...message.field.map((field) => `${name} ${field.number} ${field.name}: ${typeOf(field)}`),
    ...message.nestedType.flatMap((nested) => messageFacts(nested, name)),
    ...message.enumType.flatMap((values) => enumFacts(values, name)),
  ];
}

function typeOf(field: FieldDescriptorProto): string {
  const repeated = field.label === FieldDescriptorProto_Label.REPEATED ? "repeated " : "";
  const oneof = isFieldSet(field, FieldDescriptorProtoSchema.field.oneofIndex) ? " in a oneof" : "";
  const kind = FieldDescriptorProto_Type[field.type]?.toLowerCase();
  return `${repeated}${kind}${field.typeName === "" ? "" : ` ${field.typeName.slice(1)}`}${oneof}`;
}

function enumFacts(values: EnumDescriptorProto, scope: string): string[] {
  return values.value.map((value) => `${scope}.${values.name}.${value.name} = ${value.number}`);
}

function serviceFacts(service: ServiceDescriptorProto, scope: string): string[] {
  return service.method.map((method) => {
    const takes = `${method.clientStreaming ? "stream " : ""}${method.inputType.slice(1)}`;
    const gives = `${method.serverStreaming ? "stream " : ""}${method.outputType.slice(1)}`;
    return `/${scope}.${service.name}/${method.name}(${takes}) ${gives}`;
  });
}
