package audit

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

// Stdout as a path is the standard output of the process, which does not rotate.
const Stdout = "-"

// Rotation says when a new file is begun and which old ones stay.
type Rotation struct {
	MaxSize    int  // MB of one file, 0 means 100
	MaxAge     int  // days that old files stay, 0 no limit
	MaxBackups int  // old files that stay, 0 no limit
	LocalTime  bool // local time in names of old files, else UTC
	Compress   bool // gzip old files
}

// Options are what Start needs. Only Path, or Out, is required.
type Options struct {
	Path     string         // of a regular file, or Stdout
	Out      io.WriteCloser // where lines go instead of Path
	Rotation Rotation
	Methods  Class // the lowest class of requests that are recorded when they are not denied
	// Queue is how many entries may wait to be written, 0 means limits.AuditQueue.
	Queue int
	Clock clock.Clock // nil is the machine's
	// Failed is told when writing fails for the first time and when it fails again after it had worked; nil tells nobody. It
	// is called by the goroutine that writes.
	Failed func(error)
}

// Counters are sums since the start.
type Counters struct {
	Recorded uint64 // entries whose lines were written
	Lost     uint64 // entries that found the queue full, or whose lines could not be written
	Failures uint64 // writes that failed
}

// Log is an open audit log. Its methods may be used from any goroutine.
type Log struct {
	opt   Options
	queue chan *Entry
	free  sync.Pool // *Entry
	stop  chan struct{}
	once  sync.Once
	done  chan struct{} // closed when everything is written and the file is closed

	missing  atomic.Uint64 // lost and not yet said
	recorded atomic.Uint64
	lost     atomic.Uint64
	failures atomic.Uint64

	// Of the goroutine that writes.
	out     block
	torn    bool // the last line in the file is incomplete
	failing bool // the last write failed
}

// Start opens the log. Errors: the path cannot be written, or is not a regular file, which could block or not rotate.
func Start(o Options) (*Log, error) {
	if o.Queue == 0 {
		o.Queue = limits.AuditQueue
	}
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	if o.Out == nil {
		var err error
		if o.Out, err = open(o.Path, o.Rotation); err != nil {
			return nil, err
		}
	}
	l := &Log{opt: o, queue: make(chan *Entry, o.Queue), stop: make(chan struct{}), done: make(chan struct{})}
	l.free.New = func() any { return new(Entry) }
	go l.run()
	return l, nil
}

// open checks that a file can be written, which the library finds out only with the first line.
func open(path string, r Rotation) (io.WriteCloser, error) {
	if path == Stdout {
		return stdout{}, nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file (%s): name a file, or %s for the standard output", path, info.Mode().Type(), Stdout)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	return &lumberjack.Logger{Filename: path, MaxSize: r.MaxSize, MaxAge: r.MaxAge, MaxBackups: r.MaxBackups, LocalTime: r.LocalTime, Compress: r.Compress}, nil
}

// stdout leaves the standard output open.
type stdout struct{}

// Write implements io.Writer.
func (stdout) Write(p []byte) (int, error) { return os.Stdout.Write(p) }

// Close does nothing: others write there, too.
func (stdout) Close() error { return nil }

// Wants says whether a request of a class is recorded when it is allowed. What is denied is always recorded.
func (l *Log) Wants(c Class) bool { return c >= l.opt.Methods }

// Entry returns an empty entry.
func (l *Log) Entry() *Entry { return l.free.Get().(*Entry) }

// Discard takes back an entry that is not to be recorded.
func (l *Log) Discard(e *Entry) {
	e.reset()
	l.free.Put(e)
}

// Record writes the entry soon, or counts it as lost. It never blocks. The entry must not be used any more. After Close
// nothing is recorded.
func (l *Log) Record(e *Entry) {
	if e.Time.IsZero() {
		e.Time = l.opt.Clock.Now()
	}
	if text := &e.Outcome.Error; len(*text) > limits.AuditTextBytes {
		*text = strings.Clone((*text)[:limits.AuditTextBytes])
	}
	if l.missing.Load() > 0 {
		e.lost = l.missing.Swap(0)
	}
	select {
	case l.queue <- e:
	default:
		l.missing.Add(e.lost + 1)
		l.lost.Add(1)
		l.Discard(e)
	}
}

// Counters are the sums so far.
func (l *Log) Counters() Counters {
	return Counters{Recorded: l.recorded.Load(), Lost: l.lost.Load(), Failures: l.failures.Load()}
}

// Close writes what is queued and closes the file. When ctx ends first, for example because the file takes nothing, Close
// returns an error and leaves the rest unwritten. It may be called more than once.
func (l *Log) Close(ctx context.Context) error {
	l.once.Do(func() { close(l.stop) })
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the audit log did not take its last lines (%d entries waited): %w", len(l.queue), context.Cause(ctx))
	}
}

// run writes lines until the log is closed and the queue empty.
func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case e := <-l.queue:
			l.batch(e)
			continue
		case <-l.stop:
		}
		select { // what was recorded before Close
		case e := <-l.queue:
			l.batch(e)
			continue
		default:
		}
		if l.missing.Load() > 0 {
			l.batch(nil)
		}
		if err := l.opt.Out.Close(); err != nil {
			l.fail(err)
		}
		return
	}
}

// block is what one write brings to the file. Its memory is used again.
type block struct {
	bytes []byte
	lines []line
}

// line is one line of a block.
type line struct {
	end  int    // in bytes
	lost uint64 // how many missing entries it tells of, 0 when it is an entry itself
}

func (b *block) entry(e *Entry) {
	b.bytes = e.append(b.bytes)
	b.lines = append(b.lines, line{end: len(b.bytes)})
}

func (b *block) missing(at time.Time, n uint64) {
	if n > 0 {
		b.bytes = appendLost(b.bytes, at, n)
		b.lines = append(b.lines, line{len(b.bytes), n})
	}
}

// batch writes the line of e, which may be nil, and of what else waits, as far as it fits one write.
func (l *Log) batch(e *Entry) {
	b := &l.out
	b.bytes, b.lines = b.bytes[:0], b.lines[:0]
	if l.torn {
		b.bytes = append(b.bytes, '\n')
	}
	for e != nil {
		b.missing(e.Time, e.lost)
		b.entry(e)
		l.Discard(e)
		if len(b.bytes) >= limits.AuditWriteBytes {
			l.write(b)
			return
		}
		select {
		case e = <-l.queue:
		default:
			e = nil
		}
	}
	// Nobody waits who could bring the news.
	b.missing(l.opt.Clock.Now(), l.missing.Swap(0))
	l.write(b)
}

// write writes a block. When that fails, the entries that are not in the file are lost, and a later line says so.
func (l *Log) write(b *block) {
	n, err := l.opt.Out.Write(b.bytes)
	if n > 0 {
		l.torn = b.bytes[n-1] != '\n'
	}
	var recorded, unwritten, unsaid uint64
	for _, line := range b.lines {
		switch {
		case line.end > n:
			unsaid += line.lost
			if line.lost == 0 {
				unwritten++
			}
		case line.lost == 0:
			recorded++
		}
	}
	l.recorded.Add(recorded)
	l.lost.Add(unwritten)
	l.missing.Add(unwritten + unsaid)
	if err != nil {
		l.fail(err)
		return
	}
	l.failing = false
}

func (l *Log) fail(err error) {
	l.failures.Add(1)
	if !l.failing {
		l.failing = true
		l.opt.Failed(err)
	}
}
