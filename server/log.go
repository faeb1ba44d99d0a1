package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"gopkg.in/natefinch/lumberjack.v2"

	"quorate.dev/quorate/config"
)

// timeLayout is how the log writes a time; UTC shows as Z.
const timeLayout = "2006-01-02T15:04:05.000000Z0700"

// At most sampleFirst equal messages in a second are logged, then every sampleThen-th.
const (
	sampleFirst = 100
	sampleThen  = 100
)

// journalSocket is where systemd's journal takes messages (systemd, "Native Journal Protocol").
const journalSocket = "/run/systemd/journal/socket"

// Logger builds the server's log. Keys and their order are those of etcd's log: level, ts, logger, caller, msg, the
// fields, stacktrace. Close the second result when nothing logs any more.
func Logger(c *config.Config) (*zap.Logger, io.Closer, error) {
	level, err := zapcore.ParseLevel(c.Log.Level)
	if err != nil {
		return nil, nil, err
	}
	out, closer, err := logOutput(c)
	if err != nil {
		return nil, nil, err
	}
	core := zapcore.NewCore(logEncoder(c.Log.Format), out, level)
	return assemble(core, out), closer, nil
}

// startLogger is used before the configuration is known.
func startLogger() *zap.Logger {
	out := zapcore.Lock(os.Stderr)
	return assemble(zapcore.NewCore(logEncoder("json"), out, zapcore.InfoLevel), out)
}

// ProgramLogger is the log of the other programs that run on and on, those between clients and members: JSON on standard error.
func ProgramLogger() *zap.Logger { return startLogger() }

func assemble(core zapcore.Core, errors zapcore.WriteSyncer) *zap.Logger {
	core = zapcore.NewSamplerWithOptions(core, time.Second, sampleFirst, sampleThen)
	return zap.New(core, zap.AddCaller(), zap.AddStacktrace(zapcore.ErrorLevel), zap.ErrorOutput(errors))
}

func logEncoder(format string) zapcore.Encoder {
	cfg := zapcore.EncoderConfig{
		LevelKey: "level", TimeKey: "ts", NameKey: "logger", CallerKey: "caller", MessageKey: "msg", StacktraceKey: "stacktrace",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeTime:     zapcore.TimeEncoderOfLayout(timeLayout),
		EncodeDuration: zapcore.StringDurationEncoder,
		EncodeCaller:   zapcore.ShortCallerEncoder,
	}
	if format == "console" {
		return zapcore.NewConsoleEncoder(cfg)
	}
	return zapcore.NewJSONEncoder(cfg)
}

// logOutput opens the outputs. The config has been validated: rotation has exactly one file.
func logOutput(c *config.Config) (zapcore.WriteSyncer, io.Closer, error) {
	if slices.Contains(c.Log.Outputs, config.LogDiscard) {
		return zapcore.AddSync(io.Discard), closers(nil), nil
	}
	var sinks []zapcore.WriteSyncer
	var open closers
	for _, name := range c.Log.Outputs {
		sink, closer, err := openOutput(c, name)
		if err != nil {
			_ = open.Close()
			return nil, nil, fmt.Errorf("--log-outputs: %w", err)
		}
		if closer != nil {
			open = append(open, closer)
		}
		sinks = append(sinks, sink)
	}
	return zapcore.NewMultiWriteSyncer(sinks...), open, nil
}

func openOutput(c *config.Config, name string) (zapcore.WriteSyncer, io.Closer, error) {
	switch name {
	case config.LogDefault, config.LogStderr:
		return zapcore.Lock(os.Stderr), nil, nil
	case config.LogStdout:
		return zapcore.Lock(os.Stdout), nil, nil
	case config.LogJournal:
		conn, err := net.Dial("unixgram", journalSocket)
		if err != nil {
			return nil, nil, fmt.Errorf("systemd's journal cannot be reached, use stderr or a file: %w", err)
		}
		return zapcore.Lock(zapcore.AddSync(journal{conn})), conn, nil
	}
	if c.Log.Rotate {
		r, err := c.LogRotation()
		if err != nil {
			return nil, nil, err
		}
		file := &lumberjack.Logger{Filename: name, MaxSize: r.MaxSize, MaxAge: r.MaxAge, MaxBackups: r.MaxBackups, LocalTime: r.LocalTime, Compress: r.Compress}
		return zapcore.AddSync(file), file, nil
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, nil, err
	}
	return zapcore.Lock(file), file, nil
}

// closers closes several things and returns the first error.
type closers []io.Closer

func (cs closers) Close() error {
	var first error
	for _, c := range cs {
		if err := c.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// journal writes log lines as messages of systemd's journal.
type journal struct{ conn net.Conn }

// priorities are syslog's, by the level a line begins with.
var priorities = []struct {
	level    string
	priority byte
}{{"debug", '7'}, {"info", '6'}, {"warn", '4'}, {"error", '3'}, {"dpanic", '2'}, {"panic", '2'}, {"fatal", '1'}}

// Write sends one line. The message must be one datagram; the kernel refuses what is far beyond a log line.
func (j journal) Write(line []byte) (int, error) {
	head, priority := line[:min(len(line), 64)], byte('6')
	for _, p := range priorities {
		if bytes.Contains(head, []byte(`"`+p.level+`"`)) || bytes.Contains(head, []byte("\t"+p.level+"\t")) {
			priority = p.priority
			break
		}
	}
	text := bytes.ReplaceAll(bytes.TrimRight(line, "\n"), []byte("\n"), []byte(" "))
	message := append([]byte("SYSLOG_IDENTIFIER=quorate\nPRIORITY="), priority)
	message = append(append(append(message, "\nMESSAGE="...), text...), '\n')
	if _, err := j.conn.Write(message); err != nil {
		return 0, err
	}
	return len(line), nil
}
