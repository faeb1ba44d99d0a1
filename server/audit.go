package server

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/httpapi"
)

var auditClasses = map[string]audit.Class{config.AuditAll: audit.Read, config.AuditWrites: audit.Write, config.AuditManagement: audit.Management}

// openAudit opens the audit log when there shall be one. A member that cannot write it does not start; later failures stop
// nothing.
func (s *Server) openAudit(context.Context) error {
	set := s.cfg.Log.Audit
	if set.Path == "" {
		return nil
	}
	r, err := s.cfg.AuditRotation()
	if err != nil {
		return err
	}
	s.audit, err = audit.Start(audit.Options{
		Path: set.Path, Methods: auditClasses[set.Methods], Rotation: audit.Rotation(r),
		Failed: func(err error) {
			s.logger.Error("the audit log cannot be written; what it misses is counted in quorate_audit_lost_total", zap.String("path", set.Path), zap.Error(err))
		},
	})
	if err != nil {
		return fmt.Errorf("--audit-log: %w", err)
	}
	s.logger.Info("writing an audit log", zap.String("path", set.Path), zap.String("methods", set.Methods))
	s.onStop("audit log", s.closeAudit)
	return nil
}

// closeAudit has what is recorded written. A file that takes nothing does not hold up the stop, nor make it one that failed.
func (s *Server) closeAudit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if err := s.audit.Close(ctx); err != nil {
		s.logger.Warn("audit log not complete", zap.Error(err))
	}
	return nil
}

// auditSample is what a scrape shows of the audit log.
func (s *Server) auditSample() httpapi.AuditSample {
	if s.audit == nil {
		return httpapi.AuditSample{}
	}
	return httpapi.AuditSample(s.audit.Counters())
}
