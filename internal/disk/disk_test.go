package disk_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"quorate.dev/quorate/internal/disk"
)

// TestMakeDir takes the power after directories were made, also when an earlier process was killed in the middle of that.
func TestMakeDir(t *testing.T) {
	for _, begun := range []string{"/", "/a", "/a/b", "/a/b/c"} {
		files := vfs.NewCrashableMem()
		if begun != "/" {
			if err := disk.MakeDir(files, files.PathDir(begun)); err != nil {
				t.Fatal(err)
			}
			if err := files.MkdirAll(begun, 0o700); err != nil { // and no sync
				t.Fatal(err)
			}
		}
		if err := disk.MakeDir(files, "/a/b/c"); err != nil {
			t.Fatal(err)
		}
		left := files.CrashClone(vfs.CrashCloneCfg{})
		if info, err := left.Stat("/a/b/c"); err != nil || !info.IsDir() {
			t.Errorf("%s was there: a power failure takes the directories: %v", begun, err)
		}
	}
}

// TestMakeDirOverFile says what is in the way.
func TestMakeDirOverFile(t *testing.T) {
	files := vfs.NewMem()
	if _, err := files.Create("/a", vfs.WriteCategoryUnspecified); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/a", "/a/b"} {
		if err := disk.MakeDir(files, dir); err == nil {
			t.Errorf("%s was made, and /a is a file", dir)
		}
	}
}
