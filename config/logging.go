package config

import (
	"fmt"
	"slices"
	"strings"
)

// Rotation is how log files rotate.
type Rotation struct {
	MaxSize    int  `json:"maxsize"`    // MB, 0 means 100
	MaxAge     int  `json:"maxage"`     // days, 0 no limit
	MaxBackups int  `json:"maxbackups"` // files, 0 no limit
	LocalTime  bool `json:"localtime"`  // local time in names of old files, else UTC
	Compress   bool `json:"compress"`   // gzip old files
}

// LogRotation parses log-rotation-config-json.
func (c *Config) LogRotation() (Rotation, error) {
	return parseRotation("log-rotation-config-json", c.Log.Rotation)
}

// LogFiles lists the outputs that are files.
func (c *Config) LogFiles() []string {
	var files []string
	for _, out := range c.Log.Outputs {
		if !slices.Contains([]string{LogDefault, LogStderr, LogStdout, LogJournal, LogDiscard}, out) {
			files = append(files, out)
		}
	}
	return files
}

func (c *Config) checkLog() error {
	l := &c.Log
	if len(l.Outputs) == 0 {
		l.Outputs = []string{LogDefault}
	}
	for _, single := range []string{LogDefault, LogJournal} {
		if len(l.Outputs) > 1 && slices.Contains(l.Outputs, single) {
			return fmt.Errorf("--log-outputs %q combines %q with other outputs: name stderr, stdout or files instead", strings.Join(l.Outputs, ","), single)
		}
	}
	switch {
	case slices.Contains(l.Outputs, ""):
		return fmt.Errorf("--log-outputs %q has an empty element: name stderr, stdout or files", strings.Join(l.Outputs, ","))
	case !slices.Contains([]string{"debug", "info", "warn", "error", "dpanic", "panic", "fatal"}, l.Level):
		return fmt.Errorf("--log-level %q is unknown: use debug, info, warn, error, panic or fatal", l.Level)
	case l.Format != "" && l.Format != "json" && l.Format != "console":
		return fmt.Errorf("unknown log format: %s, supported values json, console", l.Format)
	case c.inactive["logger"] != "zap":
		return fmt.Errorf("unknown logger option %q: use zap", c.inactive["logger"])
	}
	if !l.Rotate {
		return nil
	}
	if len(c.LogFiles()) != 1 {
		return fmt.Errorf("--enable-log-rotation needs exactly one file path in --log-outputs, which is %q", strings.Join(l.Outputs, ","))
	}
	_, err := c.LogRotation()
	return err
}
