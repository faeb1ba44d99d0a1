package authn

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
)

// TestDecoy checks that a comparison with the hash of no user does the work of its cost: bcrypt finds it well-formed and
// answers that the password is another one.
func TestDecoy(t *testing.T) {
	for _, cost := range []int{CostMin, CostDefault, CostMax} {
		got, err := bcrypt.Cost(decoy(cost))
		require.NoError(t, err)
		require.Equal(t, cost, got)
	}
	for range 20 {
		require.ErrorIs(t, bcrypt.CompareHashAndPassword(decoy(CostMin), []byte("x")), bcrypt.ErrMismatchedHashAndPassword)
	}
	require.NotEqual(t, decoy(CostMin), decoy(CostMin))
}

func TestCredentialsAreBounded(t *testing.T) {
	c := newCredentials(3)
	keys := make([]digest, 5)
	for i := range keys {
		keys[i] = c.key("u", []byte{byte(i)}, "p")
	}
	for _, k := range keys[:3] {
		c.put(k, "u")
		c.put(k, "u")
	}
	require.True(t, c.has(keys[0]))
	c.put(keys[3], "u")
	require.False(t, c.has(keys[1]), "the least recently used one goes")
	require.True(t, c.has(keys[0]) && c.has(keys[2]) && c.has(keys[3]))
	require.Len(t, c.held, 3)
	require.NotEqual(t, keys[0], newCredentials(3).key("u", []byte{0}, "p"), "the key is of one process")
}
