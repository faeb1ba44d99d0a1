package storage_test

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// markerFS looks at what a power loss would leave whenever a marker is made or removed.
type markerFS struct {
	*vfs.MemFS
	t     *testing.T
	moves int
}

func (m *markerFS) left(name string) bool {
	_, err := m.CrashClone(vfs.CrashCloneCfg{}).Stat(m.PathJoin("store", name))
	return err == nil
}

func (m *markerFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if at := strings.Index(name, "MANIFEST-"); at > 0 && strings.Contains(name, "marker.manifest.") {
		if m.moves++; !m.left(name[at:]) {
			m.t.Errorf("%s is made while a power loss would leave no %s", name, name[at:])
		}
	}
	return m.MemFS.Create(name, c)
}

func (m *markerFS) Remove(name string) error {
	if kind := strings.Split(m.PathBase(name), "."); kind[0] == "marker" {
		names, err := m.CrashClone(vfs.CrashCloneCfg{}).List("store")
		others := 0
		for _, n := range names {
			if strings.HasPrefix(n, "marker."+kind[1]+".") && n != m.PathBase(name) {
				others++
			}
		}
		if err != nil || others == 0 {
			m.t.Errorf("%s is removed while a power loss would leave no newer one (%v, %v)", name, names, err)
		}
	}
	return m.MemFS.Remove(name)
}

// TestMarkerOrder checks that at no moment a power loss can leave a marker without the manifest that it names, or none: the
// file system is not asked to keep the order of what happens in a directory.
func TestMarkerOrder(t *testing.T) {
	fs := &markerFS{MemFS: vfs.NewCrashableMem(), t: t}
	for i := range 3 {
		e := open(t, fs, "store")
		commit(t, e, mark(i+1), "k1", "a")
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if fs.moves < 3 {
		t.Errorf("the marker moved %d times; the test saw too little", fs.moves)
	}
}
