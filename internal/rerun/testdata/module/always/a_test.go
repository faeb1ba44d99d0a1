package always

import "testing"

func TestFine(t *testing.T) { t.Log("nobody reads this") }

func TestAlways(t *testing.T) {
	t.Run("part", func(t *testing.T) { t.Error("as always") })
	t.Run("other", func(*testing.T) {})
}
