//go:build race

package audit_test

// poolsForget says that sync.Pool drops objects at random, as it does under the race detector.
const poolsForget = true
