package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"quorate.dev/quorate/internal/etcddb"
)

// step is how many bytes are worked on between two looks at the context.
const step = 1 << 20

// report is how many bytes lie between two reports of progress.
const report = 8 << 20

// sector is what the size of a file without checksum is a multiple of; so etcd tells the two apart.
const sector = 512

// ChecksumError says that a file has no checksum or is not what it was when its checksum was made.
type ChecksumError struct {
	File      string
	Offset    int64 // where the checksum is, or where it would be
	Want, Got []byte
	Missing   bool  // there is none
	Damage    error // what a look at the pages found; nil when they are sound
}

// Error is etcd's text, followed by where the file is damaged if that can be told.
func (e *ChecksumError) Error() string {
	text := "snapshot missing hash but --skip-hash-check=false"
	if !e.Missing {
		text = fmt.Sprintf("expected sha256 %v, got %v", e.Want, e.Got)
	}
	if e.Damage != nil {
		text += fmt.Sprintf(" (%v)", e.Damage)
	}
	return text
}

// Unwrap returns the damage.
func (e *ChecksumError) Unwrap() error { return e.Damage }

// HasChecksum says whether a file of this many bytes ends with a checksum.
func HasChecksum(size int64) bool { return size%sector == sha256.Size }

// Checksum compares a file with the checksum at its end. progress may be nil. Errors: *ChecksumError, failures of the disk, and
// the cause with which ctx ended.
func Checksum(ctx context.Context, file *etcddb.File, progress func(Progress)) error {
	if progress == nil {
		progress = func(Progress) {}
	}
	size := file.Size()
	progress(Progress{Stage: Checking, Total: size})
	if !HasChecksum(size) {
		return &ChecksumError{File: file.Path(), Offset: size, Missing: true, Damage: Sound(ctx, file)}
	}
	body := size - sha256.Size
	sum := sha256.New()
	src := io.NewSectionReader(file.Handle(), 0, body)
	for done := int64(0); done < body; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := io.CopyN(sum, src, min(step, body-done))
		if err != nil {
			return fmt.Errorf("restore: read %s at offset %d: %w", file.Path(), done+n, err)
		}
		if done += n; done%report == 0 || done == body {
			progress(Progress{Stage: Checking, Done: done, Total: body})
		}
	}
	want := make([]byte, sha256.Size)
	if _, err := file.Handle().ReadAt(want, body); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("restore: read %s at offset %d: %w", file.Path(), body, err)
	}
	if got := sum.Sum(nil); !bytes.Equal(got, want) {
		return &ChecksumError{File: file.Path(), Offset: body, Want: want, Got: got, Damage: Sound(ctx, file)}
	}
	return nil
}

// Sound walks over all pages of a file and returns the first damage, nil when there is none.
func Sound(ctx context.Context, file *etcddb.File) error {
	return file.Walk(etcddb.Visitor{Pair: func(string, []byte, []byte) error { return context.Cause(ctx) }})
}
