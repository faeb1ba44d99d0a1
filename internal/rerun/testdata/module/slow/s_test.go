package slow

import "testing"

func TestSlow(*testing.T) { select {} }

func TestFine(*testing.T) {}
