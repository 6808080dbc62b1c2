/* Whether tensors share memory.
 *
 * An element's byte address is base + sum of index * stride + byte within the element. Two
 * tensors share a byte if the difference of two such sums equals the difference of their bases: a
 * bounded integer equation. With all terms made positive (an index with a negative sign is
 * counted from its other end) this is a subset sum with counts. With strides in descending order
 * each term has one or two choices in every layout that is a view of compact memory, since all
 * smaller terms together reach less than one large step. Terms with the same stride are merged,
 * so that equal strides of the two tensors do not multiply the choices. A search that passes
 * SEARCH_LIMIT nodes gives up and reports an overlap. */
#include "tensor_view.h"

__extension__ typedef __int128 wide; /* sums of two extents of 63 bits each */

#define SEARCH_LIMIT 10000
#define TERMS        (2 * CUMEGA_MAX_DIMS + 2) /* the last one stays 0 */

typedef struct term {
  wide stride; /* > 0 */
  wide count;  /* the index runs over 0 .. count */
} term;

static int add_term(term *terms, int n, wide stride, wide count) {
  if (stride < 0) stride = -stride;
  if (stride == 0 || count == 0) return n;
  int at = 0;
  while (terms[at].stride > stride) at++;
  if (terms[at].stride == stride) {
    terms[at].count += count;
    return n;
  }
  memmove(terms + at + 1, terms + at, (size_t)(n - at) * sizeof *terms);
  terms[at] = (term){stride, count};
  return n + 1;
}

/* Whether target, 0 to rest[i], is a sum of index * stride with every index within its count.
 * rest[i]: the largest sum of terms i and later. An index is skipped where it leaves the others
 * less than 0 or more than they can reach. */
static int reaches(const term *terms, const wide *rest, int n, int i, wide target, int *nodes) {
  if (i == n) return 1;
  if (++*nodes > SEARCH_LIMIT) return 1;
  wide most = target / terms[i].stride;
  if (most > terms[i].count) most = terms[i].count;
  wide short_of = target - rest[i + 1];
  wide least = short_of <= 0 ? 0 : (short_of + terms[i].stride - 1) / terms[i].stride;
  for (wide index = least; index <= most; index++)
    if (reaches(terms, rest, n, i + 1, target - index * terms[i].stride, nodes)) return 1;
  return 0;
}

static int share_a_byte(const tensor_view *a, const tensor_view *b) {
  if (a->low >= b->high || b->low >= a->high) return 0;
  term terms[TERMS] = {{0, 0}};
  int n = 0;
  /* a counts up from its lowest byte, b down from its highest. */
  for (int i = 0; i < a->ndim; i++)
    n = add_term(terms, n, (wide)a->strides[i] * a->element_bytes, a->shape[i] - 1);
  for (int i = 0; i < b->ndim; i++)
    n = add_term(terms, n, (wide)b->strides[i] * b->element_bytes, b->shape[i] - 1);
  n = add_term(terms, n, 1, (wide)(a->element_bytes - 1) + (b->element_bytes - 1));
  wide rest[TERMS + 1];
  rest[n] = 0;
  for (int i = n - 1; i >= 0; i--) rest[i] = rest[i + 1] + terms[i].stride * terms[i].count;
  int nodes = 0; /* the target is within reach, since the two ranges share an address */
  return reaches(terms, rest, n, 0, (wide)((b->high - 1) - a->low), &nodes);
}

cumega_status tensor_view_check_output(cumega_context *ctx, const tensor_view *view) {
  if (view->count == 0) return CUMEGA_OK;
  term terms[TERMS] = {{0, 0}};
  int n = 0;
  int64_t lost = 0; /* a stride of 0 over several elements, or two dimensions with one stride */
  for (int i = 0; i < view->ndim; i++) {
    if (view->shape[i] < 2) continue;
    int before = n;
    n = add_term(terms, n, view->strides[i], view->shape[i] - 1);
    lost |= n == before;
  }
  wide reach = 0;
  for (int i = n - 1; i >= 0; i--) {
    lost |= terms[i].stride <= reach;
    reach += terms[i].stride * terms[i].count;
  }
  if (!lost) return CUMEGA_OK;
  return call_fail_argument(
      ctx,
      "%s is an output whose strides let elements overlap each other, expected strides "
      "that nest",
      view->name);
}

cumega_status tensor_view_check_apart(cumega_context *ctx, const tensor_view *output,
                                      const tensor_view *input, int may_alias) {
  if (output->count == 0 || input->count == 0) return CUMEGA_OK;
  if (tensor_view_same(output, input)) {
    if (may_alias) return CUMEGA_OK;
    return call_fail_argument(ctx, "%s is the same memory as %s, expected its own", output->name,
                              input->name);
  }
  if (!share_a_byte(output, input)) return CUMEGA_OK;
  return call_fail_argument(ctx, "%s overlaps %s, expected %s", output->name, input->name,
                            may_alias ? "exactly the same tensor or separate memory"
                                      : "separate memory");
}
