package panics

import "testing"

func TestFine(*testing.T) {}

func TestPanics(*testing.T) { panic("for a reason") }
