package compat

import (
	"path/filepath"
	"testing"

	"quorate.dev/quorate/test/compat/proc"
	"quorate.dev/quorate/test/compat/script"
)

// startClusters starts two clusters of three. What is compared is a follower of each, so that every write is forwarded and every
// linearizable read asks the leader; what it acknowledged it has applied, so serializable reads are comparable, too.
func startClusters(t *testing.T) *pair {
	t.Helper()
	p, dir := &pair{}, t.TempDir()
	t.Cleanup(p.kill)
	var members [2][]*proc.Server
	var errs [2]error
	both(func() {
		members[0], errs[0] = proc.StartCluster(proc.Etcd, filepath.Join(dir, "judge"), 3, "--unsafe-no-fsync")
	},
		func() {
			members[1], errs[1] = proc.StartCluster(opponent(), filepath.Join(dir, "other"), 3, "--unsafe-no-fsync")
		})
	p.rest = append(members[0], members[1]...)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, cluster := range members { // the same one on both, because answers name it
		if err := proc.Lead(t.Context(), cluster, 0); err != nil {
			t.Fatal(err)
		}
	}
	p.judge, p.other = members[0][1], members[1][1]
	return p
}

// TestScenariosOnThree runs the scenarios that do not need servers of their own on clusters of three. Some expectations in them are about
// a leader or a single member: there both must deviate alike.
func TestScenariosOnThree(t *testing.T) {
	cases, err := script.Load("testdata/*.case")
	if err != nil {
		t.Fatal(err)
	}
	runShared(t, cases, startClusters)
}

// TestRandomWalkOnThree is TestRandomWalk on clusters of three.
func TestRandomWalkOnThree(t *testing.T) { randomWalk(t, 10_000, startClusters(t)) }
