package cli

import (
	"io"
	"log"

	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger writes the JSON lines that etcd's client writes by default, to w instead of the program's stderr.
func newLogger(w io.Writer, level zapcore.Level) *zap.Logger {
	core := zapcore.NewCore(zapcore.NewJSONEncoder(logutil.DefaultZapLoggerConfig.EncoderConfig), zapcore.Lock(zapcore.AddSync(w)), level)
	return zap.New(core, zap.AddCaller(), zap.AddStacktrace(zapcore.ErrorLevel), zap.ErrorOutput(zapcore.AddSync(w)))
}

// clientDebug is the environment variable that says how much the client library's log says.
const clientDebug = "ETCD_CLIENT_DEBUG"

// clientLevel is the level that clientDebug names; one that does not exist is remarked.
func clientLevel(p *Process) zapcore.Level {
	text := p.Getenv(clientDebug)
	if text == "" || text == "true" {
		return zapcore.InfoLevel
	}
	var level zapcore.Level
	if level.Set(text) != nil {
		log.New(p.Stderr, "", log.LstdFlags).Print("Invalid value for environment variable 'ETCD_CLIENT_DEBUG'. Using default level: 'info'")
		return zapcore.InfoLevel
	}
	return level
}

// survive lets a program go on after a fatal line; the caller ends it.
type survive struct{}

func (survive) OnWrite(*zapcore.CheckedEntry, []zapcore.Field) {}
