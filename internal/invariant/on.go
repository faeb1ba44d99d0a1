//go:build invariants

package invariant

// Enabled is true in this build: dear checks run.
const Enabled = true
