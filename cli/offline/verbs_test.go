package offline_test

import (
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/cli/offline"
)

// TestInLargerCommandLine checks the verbs as a part of all of ours: in the help, and with a client's flags before them.
func TestInLargerCommandLine(t *testing.T) {
	all := func(p cli.Process) int { return cli.Own(p, &cobra.Command{Use: "quorate"}, offline.Verbs()...) }
	help := runAs(t.Context(), all, "snapshot", "--help").out
	for _, verb := range []string{"save", "status", "restore"} {
		require.Contains(t, help, "\n  "+verb+" ")
	}
	file, dir := fixture(t, "etcd37.db"), filepath.Join(t.TempDir(), "data")
	require.Equal(t, result{0, "{\"hash\":530303815,\"hashRevision\":16,\"compactRevision\":6}\n", ""}, runAs(t.Context(), all, "-w", "json", "hashkv", file))
	require.Equal(t, 0, runAs(t.Context(), all, "--debug", "snapshot", "restore", file, "--data-dir", dir, "--bump-revision", "500", "--mark-compacted").code)
	require.Equal(t, "1280261121, 516, 516\n", runAs(t.Context(), all, "--debug", "hashkv", dir).out)
	again := runAs(t.Context(), all, "--debug", "snapshot", "restore", file, "--data-dir", dir)
	require.Equal(t, 1, again.code)
	require.Contains(t, again.err, "quorate snapshot restore: data-dir ")
}
