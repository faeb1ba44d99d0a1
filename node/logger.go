package node

import "go.uber.org/zap"

// raftLogger gives raft's messages to zap. Raft calls Fatal and Panic only when its own invariants, or what the storage
// promised it, do not hold; both panic here, so that a stack is printed.
type raftLogger struct{ *zap.SugaredLogger }

func (l raftLogger) Warning(v ...any)                 { l.Warn(v...) }
func (l raftLogger) Warningf(format string, v ...any) { l.Warnf(format, v...) }
func (l raftLogger) Fatal(v ...any)                   { l.Panic(v...) }
func (l raftLogger) Fatalf(format string, v ...any)   { l.Panicf(format, v...) }
