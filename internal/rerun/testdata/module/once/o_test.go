package once

import (
	"os"
	"testing"
)

// first reports whether this is the first call with this name.
func first(t *testing.T, name string) bool {
	f, err := os.OpenFile(os.Getenv("RERUN_STATE")+name, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestFine(*testing.T) {}

func TestOnce(t *testing.T) {
	t.Run("part", func(t *testing.T) {
		if first(t, "once") {
			t.Error("the machine was slow")
		}
	})
}

func TestOnceMore(t *testing.T) {
	if first(t, "more") {
		t.Error("and slower")
	}
}
