package server

import (
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/ids"
)

// TestPositionCovers compares the end of a member's log with states that it could go on from.
func TestPositionCovers(t *testing.T) {
	end := position{Index: 105, Term: 6, Least: 90}
	for _, c := range []struct {
		index ids.Index
		term  ids.Term
		want  bool
		why   string
	}{
		{105, 6, true, "the same entry"},
		{106, 6, true, "a later one of the same term"},
		{104, 6, false, "the member may be the one that has the entry after it committed"},
		{101, 7, true, "a later term has passed over what the member has beyond"},
		{200, 5, false, "a longer log of an earlier term says nothing of this one"},
		{89, 7, false, "the member knows that more is committed"},
	} {
		require.Equal(t, c.want, end.covers(c.index, c.term), "%d of term %d: %s", c.index, c.term, c.why)
	}
}

// TestPositionTravels asks for a position as a leader reads it.
func TestPositionTravels(t *testing.T) {
	p := position{Index: ids.Index(rand.Uint64()), Term: ids.Term(rand.Uint64()), Least: ids.Index(rand.Uint64())}
	q, err := url.ParseQuery(p.query())
	require.NoError(t, err)
	got, err := positionOf(q)
	require.NoError(t, err)
	require.Equal(t, p, got)
	_, err = positionOf(url.Values{"index": {"1"}, "term": {"x"}, "least": {"1"}})
	require.ErrorContains(t, err, `term="x"`)
}

// TestHealRefuses what is no member.
func TestHealRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	_, err := Heal(config.Member{DataDir: dir}, zap.NewNop())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = os.Stat(dir)
	require.ErrorIs(t, err, os.ErrNotExist, "it made a directory")
	require.NoError(t, os.Mkdir(dir, 0o700))
	_, err = Heal(config.Member{DataDir: dir}, zap.NewNop())
	require.ErrorContains(t, err, "is not the data directory of a member")
}
