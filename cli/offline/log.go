package offline

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger writes the lines that etcdutl writes, to stderr. Under our own name there are none.
func (t *tool) logger() *zap.Logger {
	if t.own {
		return zap.NewNop()
	}
	w := zapcore.Lock(zapcore.AddSync(t.process.Stderr))
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		TimeKey: "ts", LevelKey: "level", NameKey: "logger", CallerKey: "caller", MessageKey: "msg", StacktraceKey: "stacktrace",
		LineEnding: zapcore.DefaultLineEnding, EncodeLevel: zapcore.LowercaseLevelEncoder,
		EncodeTime:     func(at time.Time, e zapcore.PrimitiveArrayEncoder) { e.AppendString(at.Format(time.RFC3339)) },
		EncodeDuration: zapcore.StringDurationEncoder, EncodeCaller: zapcore.ShortCallerEncoder,
	})
	return zap.New(zapcore.NewCore(encoder, w, zapcore.InfoLevel), zap.AddCaller(), zap.ErrorOutput(w))
}
