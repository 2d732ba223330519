package collections

import (
	"context"
	"encoding/json"
	"os"
	"sync"
)

// AuditFile keeps the record in a file, one JSON object a line.
type AuditFile struct {
	mu sync.Mutex
	f  *os.File
}

// OpenAuditFile opens a file to add to.
func OpenAuditFile(name string) (*AuditFile, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &AuditFile{f: f}, nil
}

// Record implements Auditor.
func (a *AuditFile) Record(_ context.Context, e AuditEntry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err = a.f.Write(append(line, '\n'))
	return err
}

// Close closes the file.
func (a *AuditFile) Close() error { return a.f.Close() }
