package invariant

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	require.NotPanics(t, func() { Check(true, "not shown") })
	require.PanicsWithValue(t, "BUG: index 7 after 9", func() { Check(false, "index %d after %d", 7, 9) })
	require.PanicsWithValue(t, "BUG: lost", func() { Failed("lost") })
}
