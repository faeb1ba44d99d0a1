//go:build !race

package audit_test

const poolsForget = false
