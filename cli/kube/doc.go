// Package kube shows what Kubernetes keeps in the store: objects in its protobuf form, and custom resources in JSON, as the YAML
// that kubectl would print.
//
// It is not a client of Kubernetes and depends on none of its packages. It knows the built-in types by a schema (schema.gz) that
// command gen makes from the tags of Kubernetes' own Go types; an object of a type, or with fields, that came later is said to
// be so, or shown without them.
//
// How data passes: Decode looks at the first bytes of a value, unpacks the envelope, and walks the object along the schema into
// the tree that Kubernetes' JSON would make, which sigs.k8s.io/yaml writes.
//
// Invariants: a value is never changed; what cannot be decoded is an error, not a guess; no input makes Decode panic or take memory
// that grows faster than the value (limits of depth are in decode.go).
package kube
