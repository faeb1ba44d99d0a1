package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/restore"
)

// explain shows an error under our own name, with what can be done about it.
func (t *tool) explain(c *cobra.Command, err error) {
	fmt.Fprintf(t.process.Stderr, "%s: %s\n", c.CommandPath(), strings.TrimPrefix(err.Error(), "restore: "))
	if next := remedy(err); next != "" {
		fmt.Fprintln(t.process.Stderr, "  "+next)
	}
}

// remedy is what to do about an error, "" when its text says so already.
func remedy(err error) string {
	var sum *restore.ChecksumError
	var damage *etcddb.DamageError
	switch {
	case errors.As(err, &sum) && sum.Missing && sum.Damage == nil:
		return fmt.Sprintf("The file ends at offset %d without a checksum. One that was copied out of a data directory has none: if it was, and the server did not run, give --skip-hash-check. Nothing was written.", sum.Offset)
	case errors.As(err, &sum) && sum.Damage == nil:
		return fmt.Sprintf("Bytes before offset %d have changed since the checksum was made, within keys or values: every page is well formed. Use another copy of the file. Nothing was written.", sum.Offset)
	case errors.As(err, &sum), errors.As(err, &damage):
		return "Use another copy of the file, or save a new one with \"quorate snapshot save\". Nothing was written."
	case errors.Is(err, restore.ErrOccupied):
		return "A restore never writes over anything: name another directory, or move that one away."
	case errors.Is(err, fs.ErrNotExist):
		return "Check the path."
	case errors.Is(err, fs.ErrPermission):
		return "Run this as the user that the server runs as."
	}
	return ""
}
