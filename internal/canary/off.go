//go:build !canary

package canary

// On is false: this build has no mistakes planted.
func On(Name) bool { return false }
