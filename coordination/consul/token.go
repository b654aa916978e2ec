package consul

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// tokenFile reads an ACL token, again whenever the file is another one.
type tokenFile struct {
	path string

	mu    sync.Mutex // guards the fields below
	info  os.FileInfo
	token string
}

// read returns the token, or "" if there is no path. It asks the file system
// each time, which takes microseconds, so that a new token counts at once.
func (f *tokenFile) read() (string, error) {
	if f.path == "" {
		return "", nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if f.info != nil && os.SameFile(info, f.info) && info.Size() == f.info.Size() && info.ModTime().Equal(f.info.ModTime()) {
		return f.token, nil
	}
	content, err := os.ReadFile(f.path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(content))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("read the token: %w", &os.PathError{Op: "read", Path: f.path, Err: errors.New("not one word")})
	}
	f.info, f.token = info, token
	return token, nil
}
