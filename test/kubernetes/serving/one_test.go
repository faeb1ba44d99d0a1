package serving

import "testing"

// TestOneMember goes through the steps that one member can show. Those that disturb nobody run side by side.
func TestOneMember(t *testing.T) {
	s := newStand(t, 1)
	s.encrypt(t, off)
	s.newSide(t, "cached")
	s.newSide(t, "direct", "--watch-cache=false", "--etcd-compaction-interval=0")
	s.startSides(t)
	manager, err := s.plane.ControllerManager(s.cached().api.URL(), "--feature-gates=StorageVersionMigrator=true")
	must(t, err)
	t.Cleanup(manager.Kill)
	type step struct {
		name string
		run  func(*testing.T, *stand)
	}
	t.Run("requests", func(t *testing.T) {
		for _, x := range []step{{"changes", changes}, {"contended", contended}, {"patches", patches}, {"deletions", deletions}, {"pages", pages},
			{"consistent", consistent}, {"encodings", encodings}, {"from-revision", fromRevision}, {"bookmarks", bookmarks}, {"watch-list", watchList},
			{"custom-resources", customResources}, {"large", large}, {"events", events}, {"cascade", cascade}, {"elections", elections},
			{"encryption", encryption}, {"storage-versions", storageVersions}, {"health", health}, {"rights", rights}} {
			t.Run(x.name, func(t *testing.T) {
				t.Parallel()
				x.run(t, s)
			})
		}
	})
	for _, x := range []step{{"compacted", compacted}, {"compaction", compaction}, {"restarts", restarts}, {"quota", quota}, {"metrics", metrics}} {
		t.Run(x.name, func(t *testing.T) { x.run(t, s) })
	}
	if t.Failed() {
		for _, x := range s.sides {
			t.Logf("end of the log of %s:\n%s", x.name, x.api.LogTail(3000))
		}
		t.Logf("end of the log of the store:\n%s", s.store.Members[0].LogTail(3000))
		t.Logf("end of the log of the controllers:\n%s", manager.LogTail(3000))
	}
}
