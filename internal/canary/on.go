//go:build canary

package canary

import "os"

var planted = Name(os.Getenv("QUORATE_CANARY"))

// On reports whether this mistake is planted, which the environment variable QUORATE_CANARY names.
func On(n Name) bool { return n == planted }
