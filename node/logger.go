package node

import (
	"strings"

	"go.uber.org/zap"
)

// raftLogger gives raft's messages to zap. Raft calls Fatal and Panic only when its own invariants, or what the storage
// promised it, do not hold; both panic here, so that a stack is printed.
type raftLogger struct{ *zap.SugaredLogger }

func (l raftLogger) Warning(v ...any)                 { l.Warn(v...) }
func (l raftLogger) Warningf(format string, v ...any) { l.Warnf(format, v...) }
func (l raftLogger) Fatal(v ...any)                   { l.Panic(v...) }
func (l raftLogger) Fatalf(format string, v ...any)   { l.Panicf(format, v...) }

// Infof makes less of what raft says whenever a write is confirmed that another leader's entries have replaced, or a second time:
// with writes that raft does not wait for, that is every day's business.
func (l raftLogger) Infof(format string, v ...any) {
	own := l.WithOptions(zap.AddCallerSkip(1))
	if strings.HasSuffix(format, "missing from unstable log; ignoring") {
		own.Debugf(format, v...)
		return
	}
	own.Infof(format, v...)
}
