import { formatViewName } from "../view-name.ts";
import { FORGE_VOCABULARY } from "./forge-vocabulary.ts";
import type {
  IssuerEntry,
  NamedTargetEntry,
  PolicyDocument,
  ScopeEntry,
  TargetEntry,
  TenantEntry,
  TrustedEntry,
  ViewEntry,
} from "./policy-document.ts";
import { formatPlace } from "./policy-problem.ts";
import type {
  NameConfirmation,
  OverlaySettings,
  PolicyIssuer,
  PolicyScope,
  PolicyTenant,
  PolicyView,
  ScopeTarget,
  TrustedRule,
  TrustPolicy,
} from "./trust-policy.ts";

const DEFAULT_TOKEN_LIFETIME_SECONDS = 3600;
const DEFAULT_AGREEING_TENANTS = 2;
/** Forges keep a freed name from others for about as long, where they do so at all. */
const DEFAULT_RECONFIRM_SECONDS = 30 * 24 * 3600;

/** A tenant of a document, with where it stands. */
export interface PlacedTenant {
  readonly name: string | undefined;
  readonly entry: TenantEntry;
  readonly path: readonly string[];
}

/** Every tenant of a document, the default one first. */
export function tenantsOf(document: PolicyDocument): readonly PlacedTenant[] {
  const { defaultTenant } = document;
  const named = Object.entries(document.tenants ?? {}).map(([name, entry]) => ({
    name,
    entry,
    path: ["tenants", name],
  }));
  if (defaultTenant === undefined) return named;
  return [{ name: undefined, entry: defaultTenant, path: ["defaultTenant"] }, ...named];
}

/** The view that a rule is about, by its short name; `undefined` when none or several could be meant. */
export function scopeView(tenant: TenantEntry, scope: ScopeEntry): string | undefined {
  if (scope.view !== undefined) return scope.view;
  const views = Object.entries(tenant.views);
  const [only, ...others] = views.length === 1 ? views : views.filter(([, view]) => view.default);
  return others.length > 0 ? undefined : only?.[0];
}

/** Whom an entry is about; `undefined` when it does not say that in exactly one way. */
export function compileTarget(entry: TargetEntry): ScopeTarget | undefined {
  const targets: ScopeTarget[] = [];
  const { repository, repositories, organization, group, enterprise, namespace } = entry;
  if (repository?.id !== undefined) targets.push({ kind: "repository", id: repository.id });
  else if (repository?.name !== undefined) {
    const { name } = repository;
    targets.push({ kind: "repository-name", name, ...compileConfirmation(repository) });
  }
  if (repositories !== undefined) {
    targets.push({ kind: "repositories", ids: repositories.map(({ id }) => id) });
  }
  if (organization?.id !== undefined) targets.push({ kind: "organization", id: organization.id });
  else if (organization?.name !== undefined) {
    const { name } = organization;
    targets.push({ kind: "organization-name", name, ...compileConfirmation(organization) });
  }
  if (group !== undefined) targets.push({ kind: "group", id: group.id });
  if (enterprise !== undefined) targets.push({ kind: "enterprise", id: enterprise.id });
  if (entry.instance === true) targets.push({ kind: "instance" });
  if (entry.serviceAccount !== undefined) {
    const { uid, ...account } = entry.serviceAccount;
    targets.push({ kind: "service-account", ...account, uid });
  }
  if (namespace !== undefined) targets.push({ kind: "namespace", namespace: namespace.name });
  return targets.length === 1 ? targets[0] : undefined;
}

function compileConfirmation({ confirmed, reconfirmAfter }: NamedTargetEntry): NameConfirmation {
  return {
    confirmedAtMs: confirmed === undefined ? 0 : Date.parse(confirmed),
    reconfirmAfterSeconds: reconfirmAfter ?? DEFAULT_RECONFIRM_SECONDS,
  };
}

/** Makes a policy of a document without problems. */
export function compilePolicy(document: PolicyDocument): TrustPolicy {
  const tenants = tenantsOf(document);
  return {
    issuers: Object.entries(document.issuers).map(([name, entry]) => compileIssuer(name, entry)),
    tenants: tenants.map(({ name, entry }): PolicyTenant => ({
      name,
      parent: entry.parent,
      trustedQuotaBytes: entry.quotas?.trusted,
      overlayQuotaBytes: entry.quotas?.overlay,
    })),
    scopes: tenants.flatMap((tenant) => compileScopes(document, tenant)),
    views: new Map(
      [...tenants.flatMap(compileViews), ...compileSharedViews(document)].map((view) => [
        view.name,
        view,
      ]),
    ),
  };
}

function compileIssuer(name: string, entry: IssuerEntry): PolicyIssuer {
  const { tokenLifetime, maxIdentityLifetime, ...same } = entry;
  return {
    ...same,
    name,
    jwksUri: entry.jwksUri,
    jwksFile: entry.jwksFile,
    tokenLifetimeSeconds: tokenLifetime ?? DEFAULT_TOKEN_LIFETIME_SECONDS,
    maxLifetimeSeconds: maxIdentityLifetime,
  };
}

function compileViews({ name: tenant, entry }: PlacedTenant): PolicyView[] {
  return Object.entries(entry.views).map(([view, settings]) => ({
    name: formatViewName({ tenant, view }),
    tenant,
    isPublic: settings.public ?? false,
    quotaBytes: settings.quota,
    reads: settings.reads ?? [],
    overlays: compileOverlays(settings),
    contributes: settings.contributes,
    writers: [],
    agreement: undefined,
    isShared: false,
  }));
}

function compileOverlays({ overlays }: ViewEntry): OverlaySettings {
  return { quotaBytes: overlays?.quota, retentionSeconds: overlays?.retention };
}

function compileScopes(
  document: PolicyDocument,
  { name: tenant, entry, path }: PlacedTenant,
): PolicyScope[] {
  const scopes = (entry.scopes ?? []).map((scope, index): PolicyScope | undefined => {
    const target = compileTarget(scope);
    const issuer = document.issuers[scope.issuer];
    const view = scopeView(entry, scope);
    if (target === undefined || issuer === undefined || view === undefined) return undefined;
    const branchIsolation = scope.branchIsolation ?? true;
    // Who trusts every branch still trusts the usual events only.
    const trusted = scope.trusted ?? (branchIsolation ? undefined : {});
    return {
      rule: formatPlace([...path, "scopes", index]),
      tenant,
      issuer: issuer.issuer,
      target,
      view: formatViewName({ tenant, view }),
      trusted: trusted && compileTrusted(trusted, issuer),
      untrusted: scope.untrusted ?? "none",
      branchIsolation,
      adoptMergeQueue: scope.adoptMergeQueue ?? FORGE_VOCABULARY[issuer.kind].hasMergeQueue,
      isOnlyRepository: false,
    };
  });
  const known = scopes.filter((scope) => scope !== undefined);
  return known.map((scope) => ({ ...scope, isOnlyRepository: isOnlyRepository(scope, known) }));
}

// Two repositories may both have a pull request 12; their overlays must not meet.
function isOnlyRepository(scope: PolicyScope, scopes: readonly PolicyScope[]): boolean {
  const { target } = scope;
  const isOne =
    target.kind === "repository" ||
    target.kind === "repository-name" ||
    (target.kind === "repositories" && target.ids.length === 1);
  return isOne && scopes.every((other) => other === scope || other.view !== scope.view);
}

function compileTrusted(entry: TrustedEntry, issuer: IssuerEntry): TrustedRule {
  return {
    refs: entry.refs ?? [],
    isProtected: entry.protected ?? false,
    events: entry.events ?? FORGE_VOCABULARY[issuer.kind].defaultEvents,
    environments: entry.environments ?? [],
  };
}

function compileSharedViews(document: PolicyDocument): PolicyView[] {
  return Object.entries(document.sharedViews ?? {}).map(([name, entry]) => ({
    name,
    tenant: name.includes("+") ? name.slice(0, name.indexOf("+")) : undefined,
    isPublic: entry.public ?? false,
    quotaBytes: entry.quota,
    reads: [],
    overlays: compileOverlays({}),
    contributes: undefined,
    agreement: entry.agreement && {
      tenants: entry.agreement.tenants ?? DEFAULT_AGREEING_TENANTS,
    },
    writers: (entry.writers ?? []).flatMap((writer, index) => {
      const target = compileTarget(writer);
      const issuer = document.issuers[writer.issuer];
      if (target === undefined || issuer === undefined) return [];
      return {
        rule: formatPlace(["sharedViews", name, "writers", index]),
        issuer: issuer.issuer,
        target,
        trusted: compileTrusted(writer.trusted, issuer),
      };
    }),
    isShared: true,
  }));
}
