package cluster_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// postgresRounds is how often the host of the database dies, unless
// DVOLD_TEST_POSTGRES_ROUNDS says otherwise.
const postgresRounds = 2

// A database loses no transaction that somebody was told of when its host dies, again
// and again, and none by half.
func testPostgres(c *cluster, pool string) {
	rounds := postgresRounds
	if text, ok := os.LookupEnv("DVOLD_TEST_POSTGRES_ROUNDS"); ok {
		var err error
		rounds, err = strconv.Atoi(text)
		c.must(err)
	}
	from, to := c.h(1), c.h(2)
	account, err := user.Lookup("postgres")
	c.must(err)
	c.atOnce(from.postgresImage, to.postgresImage)
	from.createExclusive(pool, "pgdata", "uid="+account.Uid, "gid="+account.Gid, "mode=0700")
	began := time.Now()
	from.must(from.tryPostgres())
	c.t.Logf("made in %v", time.Since(began).Round(time.Millisecond))
	from.psql(postgresTables)
	clients := make([]*pgClient, 4)
	for i := range clients {
		clients[i] = &pgClient{number: i + 1}
	}
	var pauses []time.Duration
	for range rounds {
		for _, p := range clients {
			from.must(p.run(from))
		}
		for _, p := range clients {
			from.eventually("transactions", func() error {
				if n := p.told.Load(); n < p.began+10 {
					return fmt.Errorf("client %d was told of %d, %d before", p.number, n, p.began)
				}
				return nil
			})
		}
		killed := lab.SinceBoot()
		from.must(from.Kill())
		to.startsPostgres(killed)
		to.psql("INSERT INTO marks DEFAULT VALUES")
		pauses = append(pauses, (lab.SinceBoot() - killed).Round(time.Millisecond))
		for _, p := range clients {
			p.wantAll(to)
		}
		want(c.t, "sums of what was booked", to.psql("SELECT sum(delta) = (SELECT sum(balance) FROM accounts) AND sum(delta) = (SELECT balance FROM branch) FROM history"), "t")
		c.must(from.back(c))
		from.removeContainers()
		from, to = to, from
	}
	c.t.Logf("from kill to the first transaction: %v", pauses)
	from.docker("stop", "--time", "30", "db")
}

// postgresTables are as those of pgbench(1).
const postgresTables = `
	CREATE TABLE accounts AS SELECT id, 0 AS balance FROM generate_series(1, 1000) AS id;
	ALTER TABLE accounts ADD PRIMARY KEY (id);
	CREATE TABLE branch AS SELECT 0 AS balance;
	CREATE TABLE history (client int, seq int, delta int, PRIMARY KEY (client, seq));
	CREATE TABLE marks (at timestamptz DEFAULT now());`

// pgClient books something, again and again, and takes note outside the hosts of what
// the database says is done.
type pgClient struct {
	number int
	began  int64        // what it was told before it was run
	told   atomic.Int64 // the last transaction that it was told is done; they count from 1
}

// transactions has psql say each number once that is committed. (What it writes to its
// standard error it does not keep for later.)
func (p *pgClient) transactions(w io.WriteCloser) {
	defer w.Close()
	for seq := p.began + 1; ; seq++ {
		delta, account := seq%97-48, seq*int64(p.number)%1000+1
		_, err := fmt.Fprintf(w, "BEGIN; UPDATE accounts SET balance = balance + %d WHERE id = %d; UPDATE branch SET balance = balance + %[1]d; "+
			"INSERT INTO history VALUES (%[3]d, %[4]d, %[1]d); COMMIT;\n\\warn %[4]d\n", delta, account, p.number, seq)
		if err != nil {
			return
		}
	}
}

// run runs the client until the database or its host has ended.
func (p *pgClient) run(h *host) error {
	p.began = p.told.Load()
	cmd := h.Command(h.ctx, "docker", "exec", "-i", "db", postgresBin+"/psql", "-qX", "-v", "ON_ERROR_STOP=1", "-h", "/tmp", "postgres")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := h.Start(cmd); err != nil {
		return err
	}
	go p.transactions(in)
	go func() {
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				p.told.Store(n)
			}
		}
		_ = cmd.Wait() // it ends with its host
	}()
	return nil
}

// wantAll checks that the database has all that the client was told of, and nothing of
// which there is not all that was before.
func (p *pgClient) wantAll(h *host) {
	h.t.Helper()
	told := p.told.Load()
	var count, last int64
	out := h.psql(fmt.Sprintf("SELECT count(*), coalesce(max(seq), 0) FROM history WHERE client = %d", p.number))
	if _, err := fmt.Sscanf(out, "%d|%d", &count, &last); err != nil {
		h.t.Errorf("transactions of client %d: %q: %v", p.number, out, err)
	}
	if count != last || last < told {
		h.t.Errorf("client %d was told of %d transactions; the database has %d, to number %d", p.number, told, count, last)
	}
	h.t.Logf("client %d: told of %d, and %d are there", p.number, told, count)
	p.told.Store(last)
}

// postgresBin is where Debian has the programs of the only release that it has.
var postgresBin = func() string {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(dirs) == 0 {
		return "/usr/lib/postgresql/none"
	}
	return slices.Max(dirs)
}()

// postgresImage makes the image lab/postgres of this machine's package: programs, what
// they are linked with, and what a script needs.
func (h *host) postgresImage() error {
	_, err := h.Exec(h.ctx, "bash", "-euo", "pipefail", "-c", `
		bin=$1 version=$(basename "$(dirname "$1")")
		mapfile -t libraries < <(ldd /bin/{sh,sync} "$bin"/{postgres,initdb,psql} | grep -oE '/[^ ]*\.so[^ ]*' | sort -u)
		tar -chPC / --exclude bitcode --exclude 'llvmjit*' /bin/{sh,sync} /etc/passwd "${libraries[@]}" \
			"$bin"/{postgres,initdb,psql} "/usr/lib/postgresql/$version/lib" "/usr/share/postgresql/$version" |
			docker import - lab/postgres`, "image", postgresBin)
	return err
}

// tryPostgres starts the database on the volume pgdata, in the container db.
func (h *host) tryPostgres() error {
	_, err := h.Docker(h.ctx, "run", "-d", "--name", "db", "--network", "host", "--user", "postgres", "--tmpfs", "/tmp", "--stop-signal", "INT",
		"--volume-driver", "dvol", "-v", "pgdata:/data", "lab/postgres", "/bin/sh", "-ec", `
		PATH=$0
		if ! [ -e /data/PG_VERSION ]; then
			initdb --no-sync --no-locale --encoding UTF8 --auth trust --wal-segsize 1 /data
			/bin/sync -f /data/PG_VERSION # all at once
		fi
		exec postgres -D /data -k /tmp -c listen_addresses= -c shared_buffers=16MB -c max_wal_size=16MB -c jit=off`, postgresBin)
	if err != nil {
		return err
	}
	// To make one is much to write.
	for deadline := time.Now().Add(3 * patience); ; time.Sleep(200 * time.Millisecond) {
		_, err := h.tryPsql("SELECT 1")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			said, _ := h.Exec(h.ctx, "sh", "-c", "docker logs --tail 40 db 2>&1")
			return fmt.Errorf("the database does not answer: %w; it says: %s", err, said)
		}
	}
}

// startsPostgres starts the database again and again until the host gets its volume.
func (h *host) startsPostgres(killed time.Duration) {
	h.t.Helper()
	for {
		err := h.tryPostgres()
		if err == nil {
			return
		}
		if took := lab.SinceBoot() - killed; took > 2*lease+machineTime {
			h.t.Fatalf("%s has no database after %v: %v", h.Name(), took, err)
		}
		h.t.Logf("%s has no database yet: %v", h.Name(), err)
		h.removeContainer("db")
	}
}

// psql has the database do something, and returns what it says.
func (h *host) psql(command string) string {
	h.t.Helper()
	out, err := h.tryPsql(command)
	h.must(err)
	return out
}

func (h *host) tryPsql(command string) (string, error) {
	return h.Docker(h.ctx, "exec", "db", postgresBin+"/psql", "-qAtX", "-h", "/tmp", "-c", command, "postgres")
}
