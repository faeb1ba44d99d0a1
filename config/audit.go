package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// AuditLog holds the settings of the audit log.
type AuditLog struct {
	Path     string // "" for none, "-" for the standard output
	Methods  string // AuditAll, AuditWrites or AuditManagement
	Rotation string // as Log.Rotation
}

// The values of audit-log-methods.
const (
	AuditAll        = "all"
	AuditWrites     = "writes"
	AuditManagement = "management"
)

const rotationMore = "maxsize in MB, maxage in days (0 no limit), maxbackups (0 no limit), localtime in file names, compress with gzip."

func auditRows() []Setting {
	return []Setting{
		{Name: "audit-log", Help: "File that gets a line of JSON for what clients ask for: who, what, on which keys, with which outcome; empty for none, - for the standard output.",
			More: "Not a setting of etcd. The lines are explained in docs/SECURITY.md.",
			at:   func(c *Config) any { return &c.Log.Audit.Path }},
		{Name: "audit-log-methods", Kind: Choice, Choices: []string{AuditAll, AuditWrites, AuditManagement}, Default: AuditWrites,
			Help: "What the audit log tells of: management of users, members and the store; writes too; or reads too.",
			More: "Not a setting of etcd. Whatever it is, every refusal for lack of an identity or a permission is told.",
			at:   func(c *Config) any { return &c.Log.Audit.Methods }},
		{Name: "audit-log-rotation", Default: `{"maxsize": 100, "maxage": 0, "maxbackups": 10, "localtime": false, "compress": false}`,
			Help: "How files of the audit log rotate, as a JSON object.", More: rotationMore + " Not a setting of etcd.",
			at: func(c *Config) any { return &c.Log.Audit.Rotation }},
	}
}

// AuditRotation parses audit-log-rotation.
func (c *Config) AuditRotation() (Rotation, error) {
	return parseRotation("audit-log-rotation", c.Log.Audit.Rotation)
}

// parseRotation reads the value of one of the settings of rotation.
func parseRotation(name, text string) (r Rotation, err error) {
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, fmt.Errorf("--%s %q is not a JSON object like %s: %w", name, text, lookup(name).Default, err)
	}
	if r.MaxSize < 0 || r.MaxAge < 0 || r.MaxBackups < 0 {
		return r, fmt.Errorf("--%s %q has a negative number: use at least 0", name, text)
	}
	return r, nil
}

func (c *Config) checkAudit() error {
	path := c.Log.Audit.Path
	if path == "" {
		return nil
	}
	if slices.Contains(c.LogFiles(), path) {
		return fmt.Errorf("--audit-log and --log-outputs both name %q: give the audit log a file of its own", path)
	}
	if path == "-" && slices.Contains(c.Log.Outputs, LogStdout) {
		return errors.New("--audit-log=- and --log-outputs=stdout would mix their lines: send one of them elsewhere")
	}
	_, err := c.AuditRotation()
	return err
}
