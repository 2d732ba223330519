package server

import (
	"context"
	"encoding/hex"
	"strings"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/replica"
)

// authorSecret is what the text of an author's secret key begins with.
const authorSecret = "skerry-author-"

func (s *Server) authorExport(
	ctx context.Context, req api.AuthorRequest, _ *answer,
) (api.AuthorKey, error) {
	key, err := s.author(ctx, req.Author)
	if err != nil {
		return api.AuthorKey{}, err
	}
	seed := key.Seed()
	return api.AuthorKey{Author: key.Author(), Secret: authorSecret + hex.EncodeToString(seed[:])}, nil
}

// ParseAuthorKey reads the text of an author's secret key: skerry-author- and 32 bytes in hex.
func ParseAuthorKey(text string) (replica.SecretKey, error) {
	digits, ok := strings.CutPrefix(strings.TrimSpace(text), authorSecret)
	seed, err := hex.DecodeString(digits)
	if !ok || err != nil || len(seed) != 32 {
		return replica.SecretKey{}, api.UsageErrorf(
			"not the key of an author: expected %s and 64 hex digits", authorSecret,
		)
	}
	return replica.SecretKeyFromSeed([32]byte(seed)), nil
}

func (s *Server) authorImport(
	ctx context.Context, req api.ImportAuthorRequest, _ *answer,
) (api.Author, error) {
	key, err := ParseAuthorKey(req.Secret)
	if err != nil {
		return api.Author{}, err
	}
	if err := s.node.Authors().Import(ctx, key); err != nil {
		return api.Author{}, err
	}
	def, err := s.node.Authors().Default(ctx)
	return api.Author{Author: key.Author(), Default: key.Author() == def}, err
}

func (s *Server) authorNew(ctx context.Context, _ struct{}, _ *answer) (api.Author, error) {
	id, err := s.node.Authors().New(ctx)
	if err != nil {
		return api.Author{}, err
	}
	def, err := s.node.Authors().Default(ctx)
	return api.Author{Author: id, Default: id == def}, err
}

func (s *Server) authorList(ctx context.Context, _ struct{}, _ *answer) ([]api.Author, error) {
	def, err := s.node.Authors().Default(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := s.node.Authors().All(ctx)
	out := []api.Author{}
	for _, id := range ids {
		out = append(out, api.Author{Author: id, Default: id == def})
	}
	return out, err
}

func (s *Server) authorDefault(
	ctx context.Context, req api.AuthorRequest, _ *answer,
) (api.Author, error) {
	if req.Author != "" {
		id, err := replica.ParseAuthorID(req.Author)
		if err != nil {
			return api.Author{}, api.UsageErrorf("%v", err)
		}
		if err := s.node.Authors().SetDefault(ctx, id); err != nil {
			return api.Author{}, err
		}
	}
	id, err := s.node.Authors().Default(ctx)
	return api.Author{Author: id, Default: true}, err
}
