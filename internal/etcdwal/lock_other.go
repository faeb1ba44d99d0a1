//go:build !linux

package etcdwal

import "os"

// lockOpenFile does nothing: such locks are Linux's.
func lockOpenFile(*os.File) error { return nil }
