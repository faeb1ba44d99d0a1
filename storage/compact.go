package storage

import (
	"context"
	"fmt"
)

// Compact flushes, and rewrites the files so that what was deleted takes no space any more. It is for a store that nobody
// serves from: one in use gives space back by itself, in time. It ends when ctx does, and leaves a store that is as good as
// before. It is refused in a store that is open for reading only, and in a pinned one.
func (e *Engine) Compact(ctx context.Context) error {
	if e.readOnly || e.pinned {
		return fmt.Errorf("storage: compact %s, which is open for reading only or pinned", e.dir)
	}
	if err := e.Flush(); err != nil {
		return err
	}
	defer e.tidy()
	return e.await("compact", func() error { return e.db.Compact(ctx, []byte{0}, []byte{0xff}, false) })
}
