package offline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/restore"
	"quorate.dev/quorate/snapshot"
	"quorate.dev/quorate/storage"
)

// exists is the check with which etcdutl begins.
func exists(path string) error {
	_, err := os.Stat(path)
	return err
}

// refusePending refuses a data directory whose store is to be replaced at the next start.
func refusePending(dir string) error {
	m, err := snapshot.Pending(vfs.Default, dir)
	if err == nil && m != nil {
		err = fmt.Errorf("data directory %s holds a snapshot of another member, which takes the place of its store at the next start: start the server once", dir)
	}
	return err
}

// errEtcds is why a data directory of etcd is not changed.
var errEtcds = errors.New("it is a data directory of etcd, whose files this program does not change: use the etcdutl of etcd itself, or restore a snapshot of it into a directory of Quorate")

// ownDir checks that dir is a data directory of ours. A directory that is neither ours nor etcd's is refused as etcdutl does.
func ownDir(dir string) error {
	if err := exists(filepath.Join(dir, restore.StoreName)); err == nil {
		return refusePending(dir)
	}
	if err := exists(filepath.Join(dir, dbName)); err != nil {
		return err
	}
	return errEtcds
}

func (t *tool) defragCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "defrag", Short: "Defragments the storage of the etcd", Run: t.verb(func(ctx context.Context, _ []string) error {
		if err := t.defrag(ctx, dir); err != nil {
			return fmt.Errorf("Failed to defragment etcd data[%s] (%w)", dir, err) //nolint:staticcheck // etcdutl's text
		}
		return nil
	})}
	c.Flags().StringVar(&dir, "data-dir", "", "Required. Defragments a data directory not in use by etcd.")
	_ = c.MarkFlagRequired("data-dir")
	_ = c.MarkFlagDirname("data-dir")
	return c
}

// defrag rewrites the store of a data directory, so that what was deleted takes no space.
func (t *tool) defrag(ctx context.Context, dir string) error {
	if err := ownDir(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, restore.StoreName)
	e, err := storage.Open(path, storage.Options{})
	if err != nil {
		return err
	}
	lg, start := t.logger(), t.clock.Now()
	before := sizeOf(path)
	lg.Info("defragmenting", zap.String("path", path), zap.Int64("current-db-size-bytes", before), zap.String("current-db-size", humanize.Bytes(uint64(before))))
	if err := errors.Join(e.Compact(ctx), e.Close()); err != nil {
		return err
	}
	after := sizeOf(path)
	lg.Info("finished defragmenting directory", zap.String("path", path), zap.Int64("current-db-size-bytes-diff", after-before),
		zap.Int64("current-db-size-bytes", after), zap.String("current-db-size", humanize.Bytes(uint64(after))),
		zap.Duration("took", t.clock.Now().Sub(start).Round(time.Microsecond)))
	return nil
}

// sizeOf is the size in bytes of the files in a directory; what cannot be looked at counts as nothing.
func sizeOf(dir string) (total int64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			total += info.Size()
		}
	}
	return total
}

// migration is the command line of migrate.
type migration struct {
	dir, target string
	force       bool
}

func (t *tool) migrateCommand() *cobra.Command {
	m := new(migration)
	c := &cobra.Command{Use: "migrate", Short: "Migrates schema of etcd data dir files to make them compatible with different etcd version",
		Run: t.verb(func(context.Context, []string) error { return t.migrate(m) })}
	f := c.Flags()
	f.StringVar(&m.dir, "data-dir", "", "Path to the etcd data dir")
	f.StringVar(&m.target, "target-version", "", `Target etcd version to migrate contents of data dir. Minimal value 3.5. Format "X.Y" for example 3.6.`)
	f.BoolVar(&m.force, "force", false, "Ignore migration failure and forcefully override storage version. Not recommended.")
	_ = c.MarkFlagRequired("data-dir")
	_ = c.MarkFlagDirname("data-dir")
	_ = c.MarkFlagRequired("target-version")
	return c
}

// version is major.minor of an etcd.
type version struct{ major, minor int64 }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

// oldest is the oldest version that a directory can be migrated to.
var oldest = version{3, 5}

// parseVersion reads X.Y.
func parseVersion(text string) (v version, err error) {
	parts := strings.Split(text, ".")
	if len(parts) != 2 {
		return v, fmt.Errorf(`wrong target version format, expected "X.Y", got %q`, text)
	}
	if v.major, err = strconv.ParseInt(parts[0], 10, 64); err == nil {
		v.minor, err = strconv.ParseInt(parts[1], 10, 64)
	}
	if err != nil {
		return v, fmt.Errorf("failed to parse target version: %w", err)
	}
	if v.major < oldest.major || v.major == oldest.major && v.minor < oldest.minor {
		return v, fmt.Errorf("target version %q not supported. Minimal %q", v.String(), oldest.String())
	}
	return v, nil
}

// migrate says whether a directory is of the version asked for. No other version of ours exists.
func (t *tool) migrate(m *migration) error {
	target, err := parseVersion(m.target)
	if err != nil {
		return cli.Fail(cli.ExitBadArgs, err)
	}
	if err := ownDir(m.dir); err != nil {
		return err
	}
	s, err := openStore(m.dir)
	if err != nil {
		return err
	}
	text := ""
	err = s.walk(etcddb.Visitor{
		Bucket: func(name string) (bool, error) { return name == "meta", nil },
		Pair: func(_ string, key, value []byte) error {
			if string(key) == "storageVersion" {
				text = string(value)
			}
			return nil
		}})
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	if text == target.String()+".0" || text == "" && target == oldest {
		t.logger().Info("storage version up-to-date", zap.String("storage-version", target.String()))
		return nil
	}
	return fmt.Errorf("%s is a data directory of Quorate, which is the same for every version of etcd: there is nothing to migrate. For etcd %s, save a snapshot and restore it with the etcdutl of that version", m.dir, target)
}
