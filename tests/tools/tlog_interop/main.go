// Reads a log through its public door with Go's own transparency-log code (golang.org/x/mod/sumdb).
//
// Owns nothing but the way C2SP tlog-tiles names a tile, which lacks the height that tlog.Tile.Path puts first.
// Usage: tlog_interop URL VERIFIER_KEY BEARER_TOKEN. Prints what it verified as one JSON object, or fails.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type door struct {
	url   string
	token string
	tiles map[string][]byte // a tile never changes, so it is asked for once
}

func (d *door) get(path string) []byte {
	request, err := http.NewRequest("GET", d.url+path, nil)
	check(err)
	request.Header.Set("Authorization", "Bearer "+d.token)
	response, err := http.DefaultClient.Do(request)
	check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(err)
	if response.StatusCode != 200 {
		fail("%s: %d %s", path, response.StatusCode, body)
	}
	return body
}

func (d *door) Height() int { return 8 }

func (d *door) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, tile := range tiles {
		path := "/" + strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		if d.tiles[path] == nil {
			d.tiles[path] = d.get(path)
		}
		read = append(read, d.tiles[path])
	}
	return read, nil
}

func (d *door) SaveTiles([]tlog.Tile, [][]byte) {}

type checkpoint struct {
	tree       tlog.Tree
	unverified int
}

func open(signed []byte, verifier note.Verifier) checkpoint {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() || len(lines) != 4 {
		fail("checkpoint of another form: %q", opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := tlog.ParseHash(lines[2])
	check(err)
	return checkpoint{tlog.Tree{N: size, Hash: root}, len(opened.UnverifiedSigs)}
}

func entries(d *door, size int64) [][]byte {
	var found [][]byte
	for start := int64(0); start < size; start += 256 {
		tile := tlog.Tile{H: 8, L: -1, N: start / 256, W: int(min(256, size-start))}
		bundle := d.get("/" + strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1))
		for len(bundle) > 0 {
			length := binary.BigEndian.Uint16(bundle)
			found = append(found, bundle[2:2+length])
			bundle = bundle[2+length:]
		}
	}
	return found
}

// The proof file of C2SP tlog-proof, read from its page.
func checkProof(d *door, verifier note.Verifier, index int64, entry []byte) {
	file := string(d.get("/proof/entry/" + strconv.FormatInt(index, 10)))
	head, signed, found := strings.Cut(file, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != "index "+strconv.FormatInt(index, 10) {
		fail("proof of another form: %q", file)
	}
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		check(err)
		proof = append(proof, tlog.Hash(*(*[32]byte)(hash)))
	}
	tree := open([]byte(signed), verifier).tree
	check(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)))
}

func main() {
	d := &door{url: os.Args[1], token: os.Args[3], tiles: map[string][]byte{}}
	verifier, err := note.NewVerifier(os.Args[2])
	check(err)
	head := open(d.get("/checkpoint"), verifier)
	hashes := tlog.TileHashReader(head.tree, d) // checks every tile against the tree's root
	records := entries(d, head.tree.N)
	if int64(len(records)) != head.tree.N {
		fail("%d entries for a tree of %d", len(records), head.tree.N)
	}
	for index, record := range records {
		stored, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(index))})
		check(err)
		if stored[0] != tlog.RecordHash(record) {
			fail("entry %d is not its leaf", index)
		}
	}
	for index := int64(0); index < head.tree.N; index += max(1, head.tree.N/7) {
		proof, err := tlog.ProveRecord(head.tree.N, index, hashes)
		check(err)
		check(tlog.CheckRecord(proof, head.tree.N, head.tree.Hash, index, tlog.RecordHash(records[index])))
		checkProof(d, verifier, index, records[index])
	}
	for _, size := range []int64{1, head.tree.N / 2, head.tree.N} {
		old, err := tlog.TreeHash(size, hashes)
		check(err)
		proof, err := tlog.ProveTree(head.tree.N, size, hashes)
		check(err)
		check(tlog.CheckTree(proof, head.tree.N, head.tree.Hash, size, old))
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"size": head.tree.N, "root": head.tree.Hash.String(), "tiles": len(d.tiles), "unverified": head.unverified,
	}))
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}

func max(a, b int64) int64 {
	if a > b {
		return a
	}
	return b
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}
