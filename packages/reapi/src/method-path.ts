interface ServiceDescriptor {
  readonly typeName: string;
  readonly method: Readonly<Record<string, { readonly name: string }>>;
}

/** The path that a method is called by: `/package.Service/Method`. */
export function methodPath<Service extends ServiceDescriptor>(
  service: Service,
  method: keyof Service["method"] & string,
): string {
  return `/${service.typeName}/${service.method[method]?.name}`;
}
