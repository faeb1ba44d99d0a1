package grave

import "testing"

func TestGrave(t *testing.T) {
	t.Run("part", func(t *testing.T) { t.Error("an acknowledged write is lost") })
}
