package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// verifyTables reads all tables in dir and compares their blocks with their checksums. The error names the file. What it reads does
// not come from the engine's cache, but it may come from the system's.
func verifyTables(files vfs.FS, dir string) error {
	names, err := files.List(dir)
	if err != nil {
		return err
	}
	o := &pebble.Options{Comparer: comparer}
	o.EnsureDefaults()
	options := o.MakeReaderOptions()
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			if err := verifyTable(files, files.PathJoin(dir, name), options); err != nil {
				return fmt.Errorf("file %s: %w", name, err)
			}
			giveWay()
		}
	}
	return nil
}

func verifyTable(files vfs.FS, path string, options sstable.ReaderOptions) (err error) {
	defer func() { // what is read has not been checked yet, and the engine trusts some of it
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged, reading it stopped with: %v", p)
		}
	}()
	f, err := files.Open(path)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(wholeReads{f})
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(context.Background(), readable, options)
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(verifyBlocks(r, readable), r.Close())
}

// verifyBlocks compares every block with its checksum. The engine's own function for that passes over the blocks of values.
func verifyBlocks(r *sstable.Reader, f objstorage.Readable) error {
	l, err := r.Layout()
	if err != nil {
		return err
	}
	blocks := slices.Concat(l.Index, l.ValueBlock, []block.Handle{l.TopIndex, l.RangeDel, l.RangeKey, l.ValueIndex, l.Properties, l.MetaIndex, l.BlobReferenceIndex})
	for i := range l.Data {
		blocks = append(blocks, l.Data[i].Handle)
	}
	for i := range l.Filter {
		blocks = append(blocks, l.Filter[i].Handle)
	}
	slices.SortFunc(blocks, func(a, b block.Handle) int { return cmp.Compare(a.Offset, b.Offset) })
	var b []byte
	for _, h := range blocks {
		if h.Length == 0 { // there is none of that kind
			continue
		}
		if h.Offset > uint64(f.Size()) || h.Length > uint64(f.Size())-h.Offset {
			return fmt.Errorf("%w: block %d/%d is beyond the end of the file, which has %d bytes", pebble.ErrCorruption, h.Offset, h.Length, f.Size())
		}
		b = slices.Grow(b[:0], int(h.Length)+block.TrailerLen)[:int(h.Length)+block.TrailerLen]
		if err := f.ReadAt(context.Background(), b, int64(h.Offset)); err != nil {
			return err
		}
		if err := block.ValidateChecksum(block.ChecksumTypeCRC32c, b, h); err != nil {
			return err
		}
	}
	return nil
}

// wholeReads is a file that tells when it ended within what was asked for.
type wholeReads struct{ vfs.File }

// ReadAt implements io.ReaderAt.
func (f wholeReads) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
