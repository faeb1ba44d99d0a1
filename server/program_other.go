//go:build !linux

package server

// releaseProgram does nothing where the system does not tell how.
func releaseProgram() {}
