package check

import "fmt"

// differ says where an answer is not what the model answers, and is empty when it is the same.
func differ(r Request, want, got Answer) string {
	if got.Succeeded != want.Succeeded {
		return fmt.Sprintf("its conditions were answered %t and are %t", got.Succeeded, want.Succeeded)
	}
	if got.Revision != want.Revision {
		return fmt.Sprintf("it was answered with revision %d, which must be %d", got.Revision, want.Revision)
	}
	return differPart(r, want, got)
}

// differParts compares the answers to the requests of a transaction.
func differParts(r Request, want, got Answer) string {
	if got.Succeeded != want.Succeeded {
		return fmt.Sprintf("its conditions were answered %t and are %t", got.Succeeded, want.Succeeded)
	}
	branch := r.branch(want.Succeeded)
	if len(got.Parts) != len(branch) {
		return fmt.Sprintf("it has %d answers to %d requests", len(got.Parts), len(branch))
	}
	for i, part := range branch {
		if why := differPart(part, want.Parts[i], got.Parts[i]); why != "" {
			return fmt.Sprintf("part %d (%s): %s", i, part, why)
		}
	}
	return ""
}

func differPart(r Request, want, got Answer) string {
	if r.Kind == Txn {
		return differParts(r, want, got)
	}
	if r.Kind != Range && r.Kind != Delete && r.Kind != Put {
		return ""
	}
	if (r.Kind != Put) && got.Count != want.Count {
		return fmt.Sprintf("it counts %d keys where there are %d", got.Count, want.Count)
	}
	if got.More != want.More {
		return fmt.Sprintf("it says more=%t, which must be %t", got.More, want.More)
	}
	if r.Kind != Range && !r.Prev {
		return ""
	}
	for i := range max(len(got.KVs), len(want.KVs)) {
		switch {
		case i >= len(got.KVs):
			return fmt.Sprintf("it lacks %v", want.KVs[i])
		case i >= len(want.KVs):
			return fmt.Sprintf("it has %v, which is not there", got.KVs[i])
		case got.KVs[i] != want.KVs[i]:
			return fmt.Sprintf("it has %v, which must be %v", got.KVs[i], want.KVs[i])
		}
	}
	return ""
}
