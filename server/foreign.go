package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// refuseForeign refuses directories that belong to something else, so that two kinds of data never lie in one place, and names the
// command that takes etcd's data over. It only looks.
func refuseForeign(path, logDir string) error {
	for _, name := range []string{"member", "proxy"} {
		_, err := os.Stat(filepath.Join(path, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("cannot look into data directory %s: %w", path, err)
		case name == "proxy":
			return fmt.Errorf("data directory %s is that of a proxy of etcd (%s%c), which holds no data of a member: give another --data-dir; etcd's files were not touched", path, name, filepath.Separator)
		}
		return fmt.Errorf("data directory %s holds data of etcd (%s%c), which a server does not open. To go on with them, stop etcd and run:\n  %s\nThen start with --data-dir %s. etcd's files were not touched",
			path, name, filepath.Separator, takeOver(path, logDir), taken(path))
	}
	return nil
}

// taken is a name for the directory to make.
func taken(path string) string {
	return strings.TrimRight(path, string(filepath.Separator)) + ".quorate"
}

// takeOver is the command for a data directory of etcd: those from before 3.0 hold data of the v2 API alone.
func takeOver(path, logDir string) string {
	if _, err := os.Stat(filepath.Join(path, "member", "snap", "db")); err != nil {
		command := fmt.Sprintf("quorate migrate --data-dir %s --to %s", path, taken(path))
		if logDir != "" {
			command += " --wal-dir " + logDir
		}
		return command
	}
	command := fmt.Sprintf("quorate import --from %s --data-dir %s", path, taken(path))
	if logDir != "" {
		command += " --from-wal-dir " + logDir
	}
	return command
}
