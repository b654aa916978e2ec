//go:build ceph && cgo

package ceph

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rados"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
)

// Cluster is a cluster that is connected with once that is asked for, and again when
// the connection is lost. Methods may be called concurrently.
type Cluster struct {
	config  Config
	forever bool // the library waits without end for an answer
	log     *slog.Logger

	mu     sync.Mutex // guards the fields below
	now    *connection
	behind int // calls that nobody waits for any more
	closed bool
}

// connection is one with the cluster. It is ended when nobody uses it and nobody will.
type connection struct {
	*rados.Conn
	users int
	lost  bool
}

// maxBehind is how many calls may be left behind, each with a thread, until no more
// are made.
const maxBehind = 32

// Open returns the cluster that c describes. It leaves that alone, which may hang.
func Open(c Config, log *slog.Logger) (*Cluster, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Cluster{config: c, log: log}, nil
}

// OpenForManager is Open for commands to the manager. Of one that took longer than its
// limit the library forgets the caller, but not where that wanted the answer, which it
// writes there if there is one after all (RadosClient::mgr_command). So it has no
// limit here, and Call leaves behind what hangs.
func OpenForManager(c Config, log *slog.Logger) (*Cluster, error) {
	cluster, err := Open(c, log)
	if err == nil {
		cluster.forever = true
	}
	return cluster, err
}

// Close ends the connection, once what is under way has ended.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if now := c.now; now != nil {
		c.forget(now)
		now.endUnused()
	}
	return nil
}

// Call calls f with a connection, and returns its error, translated. f may hang in
// the library: a while after ctx has ended it is left behind, with an error that wraps
// that of ctx and ErrUnavailable. What f was doing may be done then, or not. So f
// must not write to what the caller has.
func (c *Cluster) Call(ctx context.Context, f func(*rados.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.admit(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		conn, err := c.enter()
		if err == nil {
			err = f(conn.Conn)
			c.leave(conn, err)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return c.explain(err)
	case <-ctx.Done():
	}
	// Most end soon by themselves: then nothing goes on behind the caller's back.
	limit := time.NewTimer(c.config.CallTimeout)
	defer limit.Stop()
	select {
	case err := <-done:
		if err != nil {
			err = fmt.Errorf("%w: %w", c.explain(err), context.Cause(ctx))
		}
		return err
	case <-limit.C:
	}
	c.mu.Lock()
	c.behind++
	c.mu.Unlock()
	go func() {
		<-done
		c.mu.Lock()
		defer c.mu.Unlock()
		c.behind--
	}()
	return fmt.Errorf("the Ceph cluster does not answer (call_timeout, %v): %w: %w", c.config.CallTimeout, backends.ErrUnavailable, context.Cause(ctx))
}

// Value is Call for what has a result.
func Value[T any](ctx context.Context, c *Cluster, f func(*rados.Conn) (T, error)) (T, error) {
	result := make(chan T, 1) // read only when f has ended: what is left behind writes to nobody's
	err := c.Call(ctx, func(conn *rados.Conn) error {
		v, err := f(conn)
		result <- v
		return err
	})
	select {
	case v := <-result:
		return v, err
	default:
		var none T
		return none, err
	}
}

// admit returns an error if too many calls hang.
func (c *Cluster) admit() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.behind >= maxBehind {
		return fmt.Errorf("the Ceph cluster does not answer: %d calls hang, and no more are made until some end: %w", c.behind, backends.ErrUnavailable)
	}
	return nil
}

// enter returns the connection, after it was made if need be. leave must be called.
func (c *Cluster) enter() (*connection, error) {
	c.mu.Lock()
	if now := c.now; now != nil {
		now.users++
		c.mu.Unlock()
		return now, nil
	}
	c.mu.Unlock()
	conn, err := c.connect() // it may take long, and may happen twice at once
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now; now != nil && !c.closed {
		go conn.Shutdown()
		now.users++
		return now, nil
	}
	now := &connection{Conn: conn, users: 1, lost: c.closed}
	if !c.closed {
		c.now = now
	}
	return now, nil
}

// leave gives a connection back after a call that ended with err.
func (c *Cluster) leave(conn *connection, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.users--
	if isLost(err) && !conn.lost {
		c.log.Warn("connection with the Ceph cluster was lost; the next call makes another", "err", err)
		c.forget(conn)
	}
	conn.endUnused()
}

// forget has nobody use a connection from now on. c.mu is held.
func (c *Cluster) forget(conn *connection) {
	conn.lost = true
	if c.now == conn {
		c.now = nil
	}
}

// endUnused ends a lost connection with its last user.
func (conn *connection) endUnused() {
	if conn.lost && conn.users == 0 {
		go conn.Shutdown() // it may hang
	}
}

// connect makes a connection. One that it gives up, Shutdown would leave alone: its finalizer ends it.
func (c *Cluster) connect() (*rados.Conn, error) {
	keyring, err := os.ReadFile(c.config.KeyringPath())
	if err != nil {
		return nil, fmt.Errorf("keyring of Ceph user client.%s: %w: %w", c.config.User, err, backends.ErrUnavailable)
	}
	if user := "[client." + c.config.User + "]"; !strings.Contains(string(keyring), user) {
		return nil, fmt.Errorf("%s has no key for client.%s, whose begins with %s: %w", c.config.KeyringPath(), c.config.User, user, backends.ErrUnavailable)
	}
	conn, err := rados.NewConnWithUser(c.config.User)
	if err != nil {
		return nil, err
	}
	if err := c.configure(conn); err != nil {
		return nil, err
	}
	if err := conn.Connect(); err != nil {
		return nil, connectError{err}
	}
	return conn, nil
}

// connectError is that of a connection that was not made.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

func (c *Cluster) configure(conn *rados.Conn) error {
	seconds := func(d time.Duration) string { return fmt.Sprint(max(1, int(d/time.Second))) }
	if c.config.Conf != "" {
		if err := conn.ReadConfigFile(c.config.Conf); err != nil {
			return fmt.Errorf("conf: %s: %w: %w", c.config.Conf, err, backends.ErrUnavailable)
		}
	} else if err := conn.SetConfigOption("mon_host", strings.Join(c.config.Monitors, ",")); err != nil {
		return err
	}
	limit := seconds(c.config.CallTimeout)
	if c.forever {
		limit = "0"
	}
	for _, option := range [][2]string{
		{"keyring", c.config.KeyringPath()},
		{"client_mount_timeout", seconds(c.config.ConnectTimeout)},
		{"rados_mon_op_timeout", limit},
		{"rados_osd_op_timeout", seconds(c.config.CallTimeout)},
		{"log_to_stderr", "false"},
		{"err_to_stderr", "false"},
		{"log_file", ""},
		{"admin_socket", ""},
		// A fence has been proven by then, for longer than the library's own would be.
		{"rbd_blocklist_on_break_lock", "false"},
	} {
		if err := conn.SetConfigOption(option[0], option[1]); err != nil {
			return fmt.Errorf("option %s of Ceph: %w", option[0], err)
		}
	}
	return nil
}

// Errno is the system's number for an error of Ceph's libraries, or 0.
func Errno(err error) syscall.Errno {
	var numbered interface{ ErrorCode() int }
	if !errors.As(err, &numbered) {
		return 0
	}
	if n := numbered.ErrorCode(); n < 0 {
		return syscall.Errno(-n)
	} else {
		return syscall.Errno(n)
	}
}

// isLost tells whether a connection is of no use any more: others do not lose
// anything by another, and one that is blocklisted never comes back.
func isLost(err error) bool {
	return Errno(err) == unix.ESHUTDOWN || Errno(err) == unix.ENOTCONN
}

// explain says what an error means that concerns the cluster, and not what it was
// asked for.
func (c *Cluster) explain(err error) error {
	if err == nil {
		return nil
	}
	var connecting connectError
	user := "client." + c.config.User
	hint := ""
	switch number := Errno(err); {
	case errors.As(err, &connecting) && number == unix.ENOENT:
		hint = fmt.Sprintf("%s has no key for %s, or the cluster has no such user", c.config.KeyringPath(), user)
	case errors.As(err, &connecting) && (number == unix.EACCES || number == unix.EPERM || number == unix.EINVAL):
		hint = fmt.Sprintf("the cluster refuses the key that %s has for %s", c.config.KeyringPath(), user)
	case errors.As(err, &connecting):
		hint = fmt.Sprintf("no monitor answers (%s)", c.config.Hosts())
	case number == unix.EACCES, number == unix.EPERM:
		hint = fmt.Sprintf("the caps of %s do not allow it: see docs/ceph.md", user)
	case number == unix.ETIMEDOUT:
		hint = "the cluster does not answer in time (call_timeout)"
	case number == unix.ESHUTDOWN, number == unix.ENOTCONN:
		hint = "the connection with the cluster was lost"
	default:
		return err
	}
	return fmt.Errorf("%s: %w: %w", hint, err, backends.ErrUnavailable)
}
