package outbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"dunlin/sync/wire"
)

var kills = flag.Int("kills", 20, "how often TestKill kills its child")

// A test that needs another process runs this one again with childEnv set to
// what the child is to do, and childPath to the outbox.
const (
	childEnv  = "DUNLIN_TEST_CHILD"
	childPath = "DUNLIN_TEST_OUTBOX"
)

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "put":
		childPuts(os.Getenv(childPath))
	case "full":
		os.Exit(childFull(os.Getenv(childPath)))
	default:
		os.Exit(m.Run())
	}
}

func child(what, path string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+what, childPath+"="+path)
	c.Stderr = os.Stderr
	return c
}

// childPuts puts from eight goroutines until it is killed, and prints each seq
// that it was given. Now and then it acknowledges what is old.
func childPuts(path string) {
	b, err := Open(path, Options{FlushDelay: time.Millisecond, FlushRecords: 5})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var out sync.Mutex
	for range 8 {
		go func() {
			for {
				// The body is as long as its seq will say, nearly: pages split in many ways.
				n := rand.IntN(2000)
				seq, err := b.Put(context.Background(), wire.RecordResult, []byte(`"`+strings.Repeat("k", n)+`"`))
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Println("put", seq, n+2)
				if seq%150 == 0 {
					upto := seq - 100
					fmt.Println("ack", upto)
					if err := b.Ack(b.Epoch(), upto); err != nil {
						fmt.Fprintln(os.Stderr, err)
						os.Exit(1)
					}
				}
				out.Unlock()
			}
		}()
	}
	select {}
}

// TestKill kills a process that puts, at random moments, again and again on
// one file: every seq that it printed is there, or was acknowledged, with the
// body that it printed, and there is no hole.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	sizes := map[int64]int{} // printed, by seq
	acked, epoch := int64(1), ""
	for round := range *kills {
		runAndKill(t, path, time.Duration(5+rand.IntN(120))*time.Millisecond, func(line string) {
			var seq int64
			var size int
			if _, err := fmt.Sscanf(line, "put %d %d", &seq, &size); err == nil {
				if sizes[seq] != 0 {
					t.Errorf("round %d: seq %d was given twice", round, seq)
				}
				sizes[seq] = size
			} else if _, err := fmt.Sscanf(line, "ack %d", &seq); err == nil {
				acked = max(acked, seq)
			}
		})
		b, err := Open(path, quick)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if b.Recovered() != "" || epoch != "" && epoch != b.Epoch() {
			t.Fatalf("round %d: the file was given up", round)
		}
		epoch = b.Epoch()
		checkAll(t, b, sizes, acked)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d puts acknowledged", *kills, len(sizes))
}

// checkAll reads the outbox through and compares it with what was printed.
func checkAll(t *testing.T, b *Outbox, sizes map[int64]int, acked int64) {
	t.Helper()
	s := b.State()
	if s.First > acked && len(sizes) > 0 {
		t.Errorf("records below %d are gone, acknowledged is %d", s.First, acked)
	}
	for from := s.First; from < s.Next; {
		records, err := b.Next(from, 1000, math.MaxInt)
		if err != nil || len(records) == 0 {
			t.Fatalf("from %d of %+v: %d records, %v", from, s, len(records), err)
		}
		for _, r := range records {
			if r.Kind != wire.RecordResult || r.Seq != from {
				t.Fatalf("record %d is %d, %s", from, r.Seq, r.Kind)
			}
			if n := sizes[r.Seq]; n != 0 && n != len(r.Body) {
				t.Errorf("record %d has %d bytes, want %d", r.Seq, len(r.Body), n)
			}
			from++
		}
	}
	for seq := range sizes {
		if seq >= s.Next {
			t.Errorf("record %d was accepted and is lost: %+v", seq, s)
		}
	}
}

func runAndKill(t *testing.T, path string, after time.Duration, line func(string)) {
	t.Helper()
	c := child("put", path)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(out)
	first, err := in.ReadString('\n') // it is at work
	if err != nil {
		t.Fatalf("child: %v, %v", err, c.Wait())
	}
	line(first)
	timer := time.AfterFunc(after, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	for {
		s, err := in.ReadString('\n')
		if err != nil {
			break // a line that was cut off says nothing
		}
		line(s)
	}
	_ = c.Wait() // it was killed
}

// TestDiskFull runs on a file system of one megabyte where the system lets us
// make one, and everywhere with a limit on the size of files.
func TestDiskFull(t *testing.T) {
	t.Run("file size limit", func(t *testing.T) {
		runFull(t, child("full", filepath.Join(t.TempDir(), "outbox")))
	})
	t.Run("small file system", func(t *testing.T) {
		dir := t.TempDir()
		mount := "mount -t tmpfs -o size=1m none " + dir
		if out, err := exec.Command("unshare", "-rm", "sh", "-c", mount).CombinedOutput(); err != nil {
			t.Logf("no mount here, the other half of the test stands alone: %s", out)
			return
		}
		c := child("full", filepath.Join(dir, "outbox"))
		c.Args = []string{"unshare", "-rm", "sh", "-c", mount + " && exec " + os.Args[0]}
		c.Path, _ = exec.LookPath("unshare")
		c.Env = append(c.Env, "DUNLIN_TEST_NO_LIMIT=1")
		runFull(t, c)
	})
}

func runFull(t *testing.T, c *exec.Cmd) {
	t.Helper()
	out, err := c.Output()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// childFull fills the disk and checks from inside that nothing is
// half-written. It says what is wrong and returns an exit status.
func childFull(path string) int {
	if os.Getenv("DUNLIN_TEST_NO_LIMIT") == "" {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
			fmt.Println("setrlimit:", err)
			return 1
		}
	}
	b, err := Open(path, Options{Each: true})
	if err != nil {
		fmt.Println("open:", err)
		return 1
	}
	body := []byte(`"` + strings.Repeat("f", 5000) + `"`)
	accepted := int64(0)
	put := func() error {
		seq, err := b.Put(context.Background(), wire.RecordResult, body)
		if err == nil {
			accepted++
			if seq != accepted {
				return fmt.Errorf("put %d got seq %d", accepted, seq)
			}
		}
		return err
	}
	for err = nil; err == nil; {
		err = put()
	}
	fmt.Printf("full after %d records: %v\n", accepted, err)
	again := put()
	if !errors.Is(err, ErrNoSpace) || !errors.Is(again, ErrNoSpace) {
		fmt.Println("then:", again)
		return 1
	}
	check := func(when string, first int64) bool {
		records, err := b.Next(0, math.MaxInt, math.MaxInt)
		if err != nil || int64(len(records)) != accepted-first+1 || len(records) == 0 || records[0].Seq != first {
			fmt.Printf("%s: %d records, %v, state %+v, accepted %d\n", when, len(records), err, b.State(), accepted)
			return false
		}
		for _, r := range records {
			if !bytes.Equal(r.Body, body) {
				fmt.Println(when, "record", r.Seq, "is another")
				return false
			}
		}
		return true
	}
	if !check("full", 1) {
		return 1
	}
	if err := b.Close(); err != nil {
		fmt.Println("close:", err)
		return 1
	}
	b, err = Open(path, Options{Each: true})
	if err != nil || b.Recovered() != "" {
		fmt.Println("open again:", err, b)
		return 1
	}
	if !check("opened again", 1) {
		return 1
	}
	// Room again: the acknowledged records' pages are used for new ones.
	if err := b.Ack(b.Epoch(), accepted); err != nil {
		fmt.Println("ack:", err)
		return 1
	}
	first := accepted
	for range 5 {
		if err := put(); err != nil {
			fmt.Println("put after an acknowledgement:", err)
			return 1
		}
	}
	if !check("room again", first) {
		return 1
	}
	return 0
}

// TestDamagedFile: whatever is wrong with the file, Open gives a working
// outbox, and what it could not read is kept beside it.
func TestDamagedFile(t *testing.T) {
	cases := map[string]func(t *testing.T, path string){
		"empty":        func(t *testing.T, path string) { truncate(t, path, 0) },
		"one page":     func(t *testing.T, path string) { truncate(t, path, 4096) },
		"half":         func(t *testing.T, path string) { truncate(t, path, 16384) },
		"noise":        func(t *testing.T, path string) { overwrite(t, path, 0, noise(50_000)) },
		"both metas":   func(t *testing.T, path string) { overwrite(t, path, 0, make([]byte, 8192)) },
		"all pages":    func(t *testing.T, path string) { overwrite(t, path, 8192, noise(100_000)) },
		"zeroed pages": func(t *testing.T, path string) { overwrite(t, path, 8192, make([]byte, 100_000)) },
		"no epoch":     func(t *testing.T, path string) { change(t, path, dropEpoch) },
		"a hole":       func(t *testing.T, path string) { change(t, path, deleteSecond) },
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "outbox")
			b := openBox(t, path, Options{Each: true})
			fill(t, b, strings.Repeat("rp", 20))
			epoch := b.Epoch()
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, path)
			if strict, err := Open(path, Options{Strict: true}); err == nil {
				t.Errorf("taken with Strict: recovered %q", strict.Recovered())
			}
			if _, err := os.Stat(badName(path, 1)); err == nil {
				t.Error("moved aside with Strict")
			}
			b = openBox(t, path, Options{Each: true})
			if b.Epoch() == epoch || b.Recovered() != badName(path, 1) {
				t.Errorf("epoch %s, was %s; recovered %q", b.Epoch(), epoch, b.Recovered())
			}
			if _, err := os.Stat(b.Recovered()); err != nil {
				t.Error(err)
			}
			fill(t, b, "r")
			expect(t, "records", show(t, b, 0), "r1")
		})
	}
}

func truncate(t *testing.T, path string, n int64) {
	t.Helper()
	if err := os.Truncate(path, n); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	c := rand.NewChaCha8([32]byte{1})
	_, _ = c.Read(b)
	return b
}

func change(t *testing.T, path string, do func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := openDB(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(do), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func dropEpoch(tx *bolt.Tx) error    { return tx.Bucket(bucketMeta).Delete(keyEpoch) }
func deleteSecond(tx *bolt.Tx) error { return tx.Bucket(bucketRecords).Delete(keyOf(2)) }

func TestBadFilesAreFew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	for range keepBad + 2 {
		if err := os.WriteFile(path, []byte("no database"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := openBox(t, path, quick).Close(); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := filepath.Glob(path + ".bad-*")
	if err != nil || len(kept) != keepBad || kept[0] != badName(path, 3) {
		t.Errorf("kept %v, %v", kept, err)
	}
}

func TestAnotherVersionIsNotMovedAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	if err := openBox(t, path, quick).Close(); err != nil {
		t.Fatal(err)
	}
	change(t, path, func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyVersion, []byte("3")) })
	if _, err := Open(path, quick); !errors.Is(err, ErrVersion) {
		t.Errorf("open: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// TestVersionBefore: a file of layout "1" is read, and stays one that the
// version before reads while an agent is on trial, and where nothing is packed.
func TestVersionBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	b := openBox(t, path, quick)
	fill(t, b, "rpr")
	closeBox(t, b)
	change(t, path, func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyVersion, []byte("1")) })
	group := Options{FlushDelay: 1 << 40, FlushRecords: 9}
	trial := group
	trial.Strict = true

	b = openBox(t, path, trial)
	putAll(t, b, wire.RecordResult, 9, hundred)
	closeBox(t, b)
	checkLayout(t, path, "1", 12)

	b = openBox(t, path, group)
	putAll(t, b, wire.RecordResult, 9, hundred)
	want := "r1 p2 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12 r13 r14 r15 r16 r17 r18 r19 r20 r21"
	expect(t, "records", show(t, b, 0), want)
	closeBox(t, b)
	checkLayout(t, path, "2", 14)

	b = openBox(t, path, trial)
	expect(t, "on trial", show(t, b, 0), want)
	if err := b.Ack(b.Epoch(), 21); err != nil {
		t.Fatal(err)
	}
	putAll(t, b, wire.RecordResult, 9, hundred)
	closeBox(t, b)
	checkLayout(t, path, "1", 10)
}

func closeBox(t testing.TB, b *Outbox) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// checkLayout fails where the file is not of that version, with so many values.
func checkLayout(t *testing.T, path, version string, values int) {
	t.Helper()
	change(t, path, func(tx *bolt.Tx) error {
		v, n := tx.Bucket(bucketMeta).Get(keyVersion), tx.Bucket(bucketRecords).Stats().KeyN
		if string(v) != version || n != values {
			t.Errorf("layout %s with %d values, want %s with %d", v, n, version, values)
		}
		return nil
	})
}

// TestCreationCutOff: a file under its temporary name is the rest of a
// creation or a compaction that did not end.
func TestCreationCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	if err := os.WriteFile(path+".tmp", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := openBox(t, path, quick)
	if b.Recovered() != "" {
		t.Errorf("recovered %q", b.Recovered())
	}
	if _, err := os.Stat(path + ".tmp"); err == nil {
		t.Error("the temporary file is still there")
	}
}

func TestCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	b := openBox(t, path, quick)
	large := []byte(`"` + strings.Repeat("l", 20_000) + `"`)
	putAll(t, b, wire.RecordResult, 200, large)
	if err := b.Ack(b.Epoch(), 191); err != nil {
		t.Fatal(err)
	}
	epoch, before := b.Epoch(), fileSize(t, path)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBox(t, path, quick)
	if after := fileSize(t, path); after > before/4 {
		t.Errorf("file had %d bytes, has %d", before, after)
	}
	if got, want := b.State(), (wire.OutboxState{First: 191, Next: 201}); got != want || b.Epoch() != epoch {
		t.Errorf("state %+v, want %+v; epoch %s, was %s", got, want, b.Epoch(), epoch)
	}
	putAll(t, b, wire.RecordResult, 1, large)
	if records, err := b.Next(0, 99, math.MaxInt); err != nil || len(records) != 11 || len(records[10].Body) != len(large) {
		t.Errorf("%d records, %v", len(records), err)
	}
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// FuzzOpen changes a few bytes of a good file. Open must not panic, also not
// in a goroutine of bbolt's, and what it opens must work.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	seed := filepath.Join(dir, "seed")
	b := openBox(f, seed, Options{Each: true})
	for n := range 60 { // a branch page, and a record with overflow pages
		if _, err := b.Put(f.Context(), wire.RecordResult, []byte(`"`+strings.Repeat("s", n*17)+`"`)); err != nil {
			f.Fatal(err)
		}
	}
	if _, err := b.Put(f.Context(), wire.RecordReport, []byte(`"`+strings.Repeat("s", 20_000)+`"`)); err != nil {
		f.Fatal(err)
	}
	if err := b.Close(); err != nil {
		f.Fatal(err)
	}
	b = openBox(f, seed, Options{FlushDelay: 1 << 40, FlushRecords: 20})
	putAll(f, b, wire.RecordResult, 20, resultLike(rand.New(rand.NewPCG(6, 1))))
	if err := b.Close(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{0xff})
	f.Add(uint32(4096+24), []byte{0, 16, 0, 0})
	f.Add(uint32(8192), []byte{9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff})
	for page := 2; page*4096 < len(good); page++ {
		f.Add(uint32(page*4096+8), []byte{1, 0})
		f.Add(uint32(page*4096+10), []byte{0xff, 0x7f})
		f.Add(uint32(page*4096+16), []byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
		f.Add(uint32(page*4096+24), []byte{2})
	}
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		data := bytes.Clone(good)
		copy(data[int(at)%len(data):], patch)
		path := filepath.Join(t.TempDir(), "outbox")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := Open(path, Options{Each: true})
		if errors.Is(err, ErrVersion) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}()
		if _, err := b.Put(t.Context(), wire.RecordResult, []byte(`1`)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Next(0, math.MaxInt, math.MaxInt); err != nil {
			t.Fatal(err)
		}
	})
}

// BenchmarkPut gives the bytes that the kernel was told to write for each
// record (write_bytes of /proc/self/io; a tmpfs counts none, so set TMPDIR to a
// disk). Results of 700 bytes are as an agent writes them; those of 256 have
// nothing in common, and no more is won of them than what JSON costs.
func BenchmarkPut(b *testing.B) {
	for _, body := range []struct {
		bytes int
		make  func(rnd *rand.Rand) []byte
	}{
		{256, func(rnd *rand.Rand) []byte {
			text := make([]byte, 254)
			for i := range text {
				text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[rnd.IntN(64)]
			}
			return fmt.Appendf(nil, "%q", text)
		}},
		{700, resultLike},
	} {
		for _, group := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("bytes=%d/group=%d", body.bytes, group), func(b *testing.B) {
				benchmarkPut(b, group, body.make)
			})
		}
	}
}

func benchmarkPut(b *testing.B, group int, body func(*rand.Rand) []byte) {
	box := newBox(b, Options{FlushRecords: group, FlushDelay: time.Hour, FlushBytes: 1 << 20, MaxBytes: math.MaxInt64})
	rnd := rand.New(rand.NewPCG(7, 1))
	before := written(b)
	for b.Loop() {
		var wg sync.WaitGroup
		for range group {
			body := body(rnd)
			wg.Go(func() {
				if _, err := box.Put(context.Background(), wire.RecordResult, body); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	records := float64(b.N * group)
	b.ReportMetric((written(b)-before)/records, "disk-B/record")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/records, "µs/record")
}

func written(b *testing.B) float64 {
	f, err := os.Open("/proc/self/io")
	if err != nil {
		b.Skip(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if n, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
			if err != nil {
				b.Fatal(err)
			}
			return v
		}
	}
	b.Fatal("no write_bytes in /proc/self/io")
	return 0
}
