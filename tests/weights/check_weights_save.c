/* Writing weight files: the bytes of the safetensors package, from any strides, and a file that
 * keeps its old contents when something fails. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "runner.h"
#include "weights_files.h"

static weights_files files;
static void setup(void) {
  files_begin(&files);
}
static void teardown(void) {
  files_end(&files);
}

/* A tensor to save, with its memory. */
typedef struct source {
  cumega_tensor tensor;
  unsigned char data[512];
} source;

/* Byte i is (31 * i + first letter), as in data/weights/make.py. */
static cumega_named_tensor make_source(source *s, const char *name, DLDataType dtype, int ndim,
                                       const int64_t *shape) {
  int modulus = dtype.code == CUMEGA_DTYPE_CODE_BOOL ? 2 : 256;
  for (int i = 0; i < 512; i++)
    s->data[i] = (unsigned char)((31 * i + (unsigned char)name[0]) % modulus);
  DLTensor *t = cumega_tensor_init(&s->tensor, s->data, cumega_cpu, dtype, ndim, shape);
  ck_assert_ptr_nonnull(t);
  return (cumega_named_tensor){name, t};
}

static cumega_named_tensor small_source(source *s, const char *name) {
  return make_source(s, name, cumega_uint8, 1, (int64_t[]){3});
}

static void assert_saved(const cumega_named_tensor *tensors, int64_t count,
                         const cumega_metadata *metadata, int64_t metadata_count) {
  cumega_status status =
      cumega_weights_save(files.ctx, files.path, tensors, count, metadata, metadata_count);
  ck_assert_msg(status == CUMEGA_OK, "%s", cumega_context_message(files.ctx));
}

static size_t read_bytes(const char *path, unsigned char *bytes, size_t room) {
  FILE *file = fopen(path, "rb");
  ck_assert_msg(file != NULL, "%s", path);
  size_t count = fread(bytes, 1, room, file);
  ck_assert_uint_lt(count, room);
  fclose(file);
  return count;
}

static void assert_same_file(const char *path, const char *reference) {
  unsigned char ours[4096], theirs[4096];
  size_t count = read_bytes(reference, theirs, sizeof theirs);
  ck_assert_uint_eq(read_bytes(path, ours, sizeof ours), count);
  for (size_t i = 0; i < count; i++)
    ck_assert_msg(ours[i] == theirs[i], "byte %zu is 0x%02x, not 0x%02x", i, ours[i], theirs[i]);
}

START_TEST(every_type_is_written_as_the_safetensors_package_does) {
  static source s[14];
  const cumega_named_tensor tensors[] = {
      make_source(&s[0], "a.bool", cumega_bool, 1, (int64_t[]){3}),
      make_source(&s[1], "b.uint8", cumega_uint8, 2, (int64_t[]){2, 3}),
      make_source(&s[2], "c.int8", (DLDataType){kDLInt, 8, 1}, 1, (int64_t[]){5}),
      make_source(&s[3], "d.int16", (DLDataType){kDLInt, 16, 1}, 2, (int64_t[]){3, 1}),
      make_source(&s[4], "e.uint16", (DLDataType){kDLUInt, 16, 1}, 1, (int64_t[]){2}),
      make_source(&s[5], "f.float16", cumega_float16, 1, (int64_t[]){7}),
      make_source(&s[6], "g.bfloat16", cumega_bfloat16, 3, (int64_t[]){1, 2, 3}),
      make_source(&s[7], "h.int32", cumega_int32, 1, (int64_t[]){2}),
      make_source(&s[8], "i.uint32", (DLDataType){kDLUInt, 32, 1}, 1, (int64_t[]){3}),
      make_source(&s[9], "j.float32", cumega_float32, 2, (int64_t[]){2, 3}),
      make_source(&s[10], "k.float64", cumega_float64, 1, (int64_t[]){3}),
      make_source(&s[11], "l.int64", cumega_int64, 1, (int64_t[]){1}),
      make_source(&s[12], "m.uint64", (DLDataType){kDLUInt, 64, 1}, 2, (int64_t[]){2, 2}),
      make_source(&s[13], "n.complex64", (DLDataType){kDLComplex, 64, 1}, 1, (int64_t[]){2}),
  };
  const cumega_metadata metadata = {"gr\xC3\xB6\xC3\x9F"
                                    "e/\"\\",
                                    "\xCE\xB5 = 1\t\xE2\x80\xA8\x7F\x01 \xF0\x9F\x98\x80"};
  assert_saved(tensors, 14, &metadata, 1);
  assert_same_file(files.path, SOURCE_DIR "/tests/data/weights/every_type.safetensors");
}
END_TEST

START_TEST(scalars_empty_tensors_and_odd_names_are_written_as_the_safetensors_package_does) {
  static source s[7];
  const cumega_named_tensor tensors[] = {
      make_source(&s[0], "b", cumega_float32, 1, (int64_t[]){2}),
      make_source(&s[1], "\xC3\xA9\n\r\t\b\f\x1f/\"\\", cumega_uint8, 1, (int64_t[]){5}),
      make_source(&s[2], "a", cumega_float32, 2, (int64_t[]){0, 3}),
      make_source(&s[3], "", cumega_float32, 0, NULL),
      make_source(&s[4], "zero", cumega_float64, 1, (int64_t[]){0}),
      make_source(&s[5], "ab", cumega_float32, 8, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1}),
      make_source(&s[6], "Z", cumega_float32, 1, (int64_t[]){3}),
  };
  s[3].tensor.dl.shape = NULL; /* as another library may describe a scalar */
  s[2].tensor.dl.data = NULL;
  s[4].tensor.dl.data = (void *)UINTPTR_MAX; /* the address of an empty tensor does not matter */
  s[4].tensor.dl.byte_offset = 8;
  assert_saved(tensors, 7, NULL, 0);
  assert_same_file(files.path, SOURCE_DIR "/tests/data/weights/edges.safetensors");
}
END_TEST

START_TEST(a_file_of_nothing_is_written_as_the_safetensors_package_does) {
  unsigned char bytes[64];
  assert_saved(NULL, 0, NULL, 0);
  ck_assert_uint_eq(read_bytes(files.path, bytes, sizeof bytes), 16);
  ck_assert_mem_eq(bytes, "\10\0\0\0\0\0\0\0{}      ", 16);
}
END_TEST

START_TEST(metadata_is_written_in_the_given_order) {
  const cumega_metadata metadata[] = {{"z", "1"}, {"a", ""}, {"m", "3"}};
  assert_saved(NULL, 0, metadata, 3);
  cumega_weights *weights;
  ck_assert_int_eq(cumega_weights_open(files.ctx, files.path, &weights), CUMEGA_OK);
  for (int i = 0; i < 3; i++) {
    ck_assert_str_eq(cumega_weights_metadata_at(weights, i).key, metadata[i].key);
    ck_assert_str_eq(cumega_weights_metadata_at(weights, i).value, metadata[i].value);
  }
  ck_assert_ptr_null(cumega_weights_metadata_at(weights, 3).key);
  cumega_weights_close(weights);
}
END_TEST

/* Strides of int32 over a block whose element k holds k. The written values are the positions of
 * all elements in row-major order, computed here by plain indexing. */
static const struct {
  int ndim;
  int64_t shape[4], strides[4];
  uint64_t offset; /* elements */
} views[] = {
    {2, {3, 5}, {1, 3}, 0},                  /* transposed */
    {3, {4, 3, 5}, {5, 20, 1}, 0},           /* a permuted batch: rows stay whole */
    {2, {3, 5}, {10, 2}, 7},                 /* every other element, from the middle */
    {2, {4, 5}, {-5, 1}, 15},                /* rows backwards */
    {1, {6}, {-1}, 5},                       /* backwards */
    {3, {2, 3, 4}, {0, 4, 1}, 0},            /* broadcast */
    {2, {3, 4}, {0, 0}, 2},                  /* one element, again and again */
    {4, {2, 1, 3, 1}, {3, 999, 1, -999}, 1}, /* strides of single elements mean nothing */
    {3, {2, 2, 3}, {7, 3, 1}, 0},            /* padded planes */
    {2, {0, 3}, {1, 1}, 0},
    {0, {0}, {0}, 9},
};

START_TEST(strided_tensors_are_gathered_in_row_major_order) {
  static int32_t block[100], written[100];
  for (int i = 0; i < 100; i++) block[i] = i;
  int64_t shape[4], strides[4];
  memcpy(shape, views[_i].shape, sizeof shape);
  memcpy(strides, views[_i].strides, sizeof strides);
  DLTensor t = {.data = block,
                .device = {kDLCUDAHost, 0},
                .ndim = views[_i].ndim,
                .dtype = cumega_int32,
                .shape = shape,
                .strides = strides,
                .byte_offset = 4 * views[_i].offset};
  cumega_named_tensor tensor = {"t", &t};
  assert_saved(&tensor, 1, NULL, 0);

  cumega_weights *weights;
  ck_assert_int_eq(cumega_weights_open(files.ctx, files.path, &weights), CUMEGA_OK);
  const cumega_weights_entry *entry = cumega_weights_find(weights, "t");
  ck_assert_int_eq(cumega_weights_read(files.ctx, weights, entry, written, 400), CUMEGA_OK);
  int64_t count = 1;
  for (int d = 0; d < t.ndim; d++) count *= shape[d];
  ck_assert_int_eq(entry->bytes, 4 * count);
  for (int64_t i = 0; i < count; i++) {
    int64_t rest = i, expected = (int64_t)views[_i].offset;
    for (int d = t.ndim - 1; d >= 0; d--) {
      expected += rest % shape[d] * strides[d];
      rest /= shape[d];
    }
    ck_assert_int_eq(written[i], expected);
  }
  cumega_weights_close(weights);
}
END_TEST

/* 300,000 and 70,000 doubles: more than the writer's buffer, contiguous and transposed. */
START_TEST(tensors_larger_than_any_buffer_are_written_whole) {
  const int64_t count = 300 * 1000, rows = 7, columns = 10 * 1000;
  double *data = malloc((size_t)count * sizeof *data),
         *back = malloc((size_t)count * sizeof *back);
  for (int64_t i = 0; i < count; i++) data[i] = (double)i;
  cumega_tensor whole, view;
  cumega_tensor_init(&whole, data, cumega_cpu, cumega_float64, 1, &count);
  cumega_tensor_init(&view, data, cumega_cpu, cumega_float64, 2, (int64_t[]){columns, rows});
  view.strides[0] = 1;
  view.strides[1] = columns;
  const cumega_named_tensor tensors[] = {{"whole", &whole.dl}, {"view", &view.dl}};
  assert_saved(tensors, 2, NULL, 0);
  cumega_weights *weights;
  ck_assert_int_eq(cumega_weights_open(files.ctx, files.path, &weights), CUMEGA_OK);
  const cumega_weights_entry *entry = cumega_weights_find(weights, "whole");
  ck_assert_int_eq(cumega_weights_read(files.ctx, weights, entry, back, 8 * count), CUMEGA_OK);
  ck_assert_mem_eq(back, data, 8 * (size_t)count);
  entry = cumega_weights_find(weights, "view");
  ck_assert_int_eq(cumega_weights_read(files.ctx, weights, entry, back, 8 * count), CUMEGA_OK);
  for (int64_t i = 0; i < rows * columns; i++)
    ck_assert_double_eq(back[i], (double)(i % rows * columns + i / rows));
  cumega_weights_close(weights);
  free(data);
  free(back);
}
END_TEST

/* Refused arguments leave no file behind. */
static void assert_refused(const cumega_named_tensor *tensors, int64_t count,
                           const cumega_metadata *metadata, int64_t metadata_count,
                           const char *sentence) {
  MUST_FAIL(files.ctx,
            cumega_weights_save(files.ctx, files.path, tensors, count, metadata, metadata_count),
            CUMEGA_ERROR_ARGUMENT, sentence);
  ck_assert_int_eq(files_in_folder(&files, 0), 0);
}

START_TEST(a_tensor_that_cannot_be_saved_is_named) {
  static source s;
  cumega_named_tensor tensor = small_source(&s, "x");
  DLTensor *t = &s.tensor.dl;
  const DLTensor good = *t;
  int64_t huge[] = {INT64_MAX / 2, 3}, negative[] = {2, -1}, two[] = {2, 2};
  int64_t far_up[] = {INT64_MAX, INT64_MAX}, far_down[] = {-(INT64_C(1) << 62), 0};
#define REFUSED(change, sentence)                                                                 \
  do {                                                                                            \
    change;                                                                                       \
    assert_refused(&tensor, 1, NULL, 0, sentence);                                                \
    *t = good;                                                                                    \
    tensor = (cumega_named_tensor){"x", t};                                                       \
  } while (0)
  REFUSED(tensor.name = NULL, "tensors[0] has no name");
  REFUSED(tensor.name = "__metadata__", "'__metadata__' cannot name a tensor");
  REFUSED(tensor.name = "a\xC0\x80", "'a\\xc0\\x80' is not UTF-8");
  REFUSED(tensor.name = "\xED\xA0\x80", "is not UTF-8");     /* a surrogate */
  REFUSED(tensor.name = "\xF4\x90\x80\x80", "is not UTF-8"); /* above U+10FFFF */
  REFUSED(tensor.name = "\xF0\x8F\xBF\xBF", "is not UTF-8"); /* overlong */
  REFUSED(tensor.name = "\xE0\x9F\xBF", "is not UTF-8");     /* overlong */
  REFUSED(tensor.name = "\xE2\x82", "is not UTF-8");         /* cut short */
  REFUSED(tensor.name = "\x80", "is not UTF-8");
  REFUSED(tensor.tensor = NULL, "'x' has no tensor");
  REFUSED(t->device.device_type = kDLCUDA, "'x' lies on device type 2; only CPU memory");
  REFUSED(t->dtype.lanes = 4, "'x' has a type that the format has not: code 1, 8 bits, 4 lanes");
  REFUSED(t->dtype.bits = 4, "code 1, 4 bits, 1 lanes");
  REFUSED(t->dtype = ((DLDataType){0, 0, 1}), "code 0, 0 bits, 1 lanes");
  REFUSED(t->dtype = ((DLDataType){kDLComplex, 128, 1}), "code 5, 128 bits");
  REFUSED(t->ndim = -1, "'x' has -1 dimensions");
  REFUSED(t->ndim = 9, "'x' has 9 dimensions; 0 .. 8 are possible");
  REFUSED(t->shape = NULL, "'x' has no shape");
  REFUSED(t->data = NULL, "'x' has no data");
  REFUSED((t->shape = negative, t->ndim = 2), "'x' has a negative dimension 1: -1");
  REFUSED((t->shape = huge, t->ndim = 2), "'x' has more bytes than 64 bits can count");
  REFUSED(t->byte_offset = UINT64_MAX, "'x' reaches outside the address space");
  REFUSED(t->data = (void *)(UINTPTR_MAX - 1),
          "'x' reaches outside"); /* too long by its last byte */
  REFUSED((t->shape = two, t->ndim = 2, t->strides = far_up), "'x' reaches outside");
  REFUSED((t->shape = two, t->ndim = 2, t->strides = far_down), "'x' reaches outside");
#undef REFUSED
  int64_t none[] = {0, 2};
  *t = good;
  t->shape = none, t->ndim = 2, t->strides = far_up; /* of elements that do not exist */
  assert_saved(&tensor, 1, NULL, 0);
}
END_TEST

START_TEST(what_is_given_twice_or_not_at_all_is_refused) {
  static source s[3];
  cumega_named_tensor tensors[] = {small_source(&s[0], "x"), small_source(&s[1], "y"),
                                   make_source(&s[2], "x", cumega_float32, 1, (int64_t[]){2})};
  assert_refused(tensors, 3, NULL, 0, "'x' is given twice among the tensors");
  assert_refused(NULL, 1, NULL, 0, "tensors is NULL");
  assert_refused(tensors, -1, NULL, 0, "tensor_count is -1");
  assert_refused(tensors, INT64_MAX, NULL, 0, "tensor_count is 9223372036854775807");
  int64_t half[] = {INT64_MAX / 2 + 1};
  s[0].tensor.dl.shape = s[1].tensor.dl.shape = half;
  assert_refused(tensors, 2, NULL, 0, "'y' brings the file above 2^63 bytes");

  const cumega_metadata twice[] = {{"k", "1"}, {"l", "2"}, {"k", "3"}};
  assert_refused(NULL, 0, twice, 3, "'k' is given twice among the metadata");
  assert_refused(NULL, 0, NULL, 1, "metadata is NULL");
  assert_refused(NULL, 0, twice, -1, "metadata_count is -1");
  assert_refused(NULL, 0, twice, INT64_MAX, "metadata_count is 9223372036854775807");
  assert_refused(NULL, 0, &(cumega_metadata){NULL, "v"}, 1, "metadata[0] has no key");
  assert_refused(NULL, 0, &(cumega_metadata){"k", NULL}, 1, "metadata[0] has no value");
  assert_refused(NULL, 0, &(cumega_metadata){"\xFF", "v"}, 1, "'\\xff' is not UTF-8");
  assert_refused(NULL, 0, &(cumega_metadata){"k", "\xFF"}, 1, "'k' has a metadata value that is");
  ck_assert_int_eq(cumega_weights_save(files.ctx, NULL, NULL, 0, NULL, 0), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_weights_save(NULL, files.path, NULL, 0, NULL, 0), CUMEGA_ERROR_ARGUMENT);
}
END_TEST

START_TEST(a_header_above_the_limit_is_refused) {
  const size_t length = CUMEGA_WEIGHTS_HEADER_LIMIT - 20; /* `{"__metadata__":{"":""}}` has 23 */
  char *value = malloc(length + 1);
  ck_assert_ptr_nonnull(value);
  memset(value, 'x', length);
  value[length] = '\0';
  assert_refused(NULL, 0, &(cumega_metadata){"", value}, 1,
                 "100000008 bytes; 100000000 are allowed");
  free(value);
}
END_TEST

static void assert_file_error(const char *path, const char *sentence) {
  static source s;
  cumega_named_tensor tensor = small_source(&s, "x");
  MUST_FAIL(files.ctx, cumega_weights_save(files.ctx, path, &tensor, 1, NULL, 0),
            CUMEGA_ERROR_FILE, sentence);
}

START_TEST(a_place_that_cannot_hold_a_file_is_an_error_with_a_reason) {
  char path[PATH_MAX + 100];
  snprintf(path, sizeof path, "%s/none/x.safetensors", files.folder);
  assert_file_error(path, strerror(ENOENT));
  assert_file_error("", strerror(ENOENT));
  assert_file_error(files.folder, "is a directory, not a regular file");
  assert_file_error("/dev/null", "is a device, not a regular file");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", files.folder);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
  close(fd);
  assert_file_error(address.sun_path, "is a socket, not a regular file");
  save_bytes(files.path, "x", 1);
  snprintf(path, sizeof path, "%s/x", files.path);
  assert_file_error(path, "cannot be written: Not a directory");
  snprintf(path, sizeof path, "%s/%0300d", files.folder, 0);
  assert_file_error(path, "cannot be written: File name too long");
  for (int length = PATH_MAX; length < PATH_MAX + 60; length += 50) {
    memset(path, 'x', PATH_MAX + 50);
    for (int i = 100; i < length; i += 100) path[i] = '/';
    path[length] = '\0';
    assert_file_error(path, "cannot be written: File name too long");
  }
  snprintf(path, sizeof path, "%s/link", files.folder);
  ck_assert_int_eq(symlink("nowhere/at/all", path), 0);
  assert_file_error(path, strerror(ENOENT));
  ck_assert_int_eq(files_in_folder(&files, 0), 3);
}
END_TEST

START_TEST(a_file_replaces_the_old_one_under_the_umask_and_leaves_nothing_else) {
  static source s;
  cumega_named_tensor tensor = small_source(&s, "x");
  struct stat file;
  save_bytes(files.path, "old", 3);
  ck_assert_int_eq(chmod(files.path, 0600), 0);
  mode_t before = umask(027);
  assert_saved(&tensor, 1, NULL, 0);
  umask(before);
  ck_assert_int_eq(stat(files.path, &file), 0);
  ck_assert_int_eq(file.st_mode & 07777, 0640);
  ck_assert_int_eq(files_in_folder(&files, 0), 1);
  cumega_weights *weights;
  ck_assert_int_eq(cumega_weights_open(files.ctx, files.path, &weights), CUMEGA_OK);
  cumega_weights_close(weights);
}
END_TEST

START_TEST(a_file_in_the_working_directory_needs_no_folder_in_its_path) {
  static source s;
  cumega_named_tensor tensor = small_source(&s, "x");
  int before = open(".", O_RDONLY | O_DIRECTORY);
  ck_assert_int_ge(before, 0);
  ck_assert_int_eq(chdir(files.folder), 0);
  cumega_status status = cumega_weights_save(files.ctx, "x.safetensors", &tensor, 1, NULL, 0);
  ck_assert_int_eq(fchdir(before), 0);
  close(before);
  ck_assert_msg(status == CUMEGA_OK, "%s", cumega_context_message(files.ctx));
  ck_assert_int_eq(files_in_folder(&files, 0), 1);
}
END_TEST

/* For tests that cannot use the working directory. */
START_TEST(the_new_file_is_made_beside_its_place) {
  static source s;
  cumega_named_tensor tensor = small_source(&s, "x");
  int before = open(".", O_RDONLY | O_DIRECTORY);
  ck_assert_int_ge(before, 0);
  ck_assert_int_eq(chdir("/proc/self"), 0);
  cumega_status status = cumega_weights_save(files.ctx, files.path, &tensor, 1, NULL, 0);
  ck_assert_int_eq(fchdir(before), 0);
  close(before);
  ck_assert_msg(status == CUMEGA_OK, "%s", cumega_context_message(files.ctx));
}
END_TEST

START_TEST(a_symbolic_link_stays_one_and_its_file_is_replaced) {
  static source s;
  cumega_named_tensor tensor = small_source(&s, "x");
  char link[128];
  struct stat file;
  save_bytes(files.path, "old", 3);
  snprintf(link, sizeof link, "%s/link", files.folder);
  ck_assert_int_eq(symlink("model.safetensors", link), 0);
  ck_assert_int_eq(cumega_weights_save(files.ctx, link, &tensor, 1, NULL, 0), CUMEGA_OK);
  ck_assert_int_eq(lstat(link, &file), 0);
  ck_assert(S_ISLNK(file.st_mode));
  ck_assert_int_eq(stat(files.path, &file), 0);
  ck_assert_int_gt(file.st_size, 3);
  ck_assert_int_eq(files_in_folder(&files, 0), 2);
}
END_TEST

/* A full disk, simulated by a limit on the size of files: the header fits, the data does not. */
START_TEST(a_write_that_fails_keeps_the_old_file) {
  static unsigned char data[1000 * 1000];
  int64_t shape[] = {sizeof data};
  cumega_tensor t;
  cumega_named_tensor tensor = {"x",
                                cumega_tensor_init(&t, data, cumega_cpu, cumega_uint8, 1, shape)};
  struct rlimit before, small;
  save_bytes(files.path, "old", 3);
  ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
  small = before;
  small.rlim_cur = 100 * 1000;
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
  cumega_status status = cumega_weights_save(files.ctx, files.path, &tensor, 1, NULL, 0);
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, handler);
  ck_assert_int_eq(status, CUMEGA_ERROR_FILE);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(files.ctx), strerror(EFBIG)));
  unsigned char bytes[16];
  ck_assert_uint_eq(read_bytes(files.path, bytes, sizeof bytes), 3);
  ck_assert_mem_eq(bytes, "old", 3);
  ck_assert_int_eq(files_in_folder(&files, 0), 1);
}
END_TEST

/* An allocator whose n-th call fails. */
typedef struct failing {
  int calls_left, live;
} failing;

static void *failing_allocate(void *user, size_t bytes, size_t alignment) {
  failing *f = user;
  if (f->calls_left-- == 0) return NULL;
  f->live++;
  return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void failing_release(void *user, void *memory, size_t bytes) {
  (void)bytes;
  ((failing *)user)->live--;
  free(memory);
}

START_TEST(memory_that_runs_out_is_a_status_and_leaks_nothing) {
  static source s;
  cumega_named_tensor tensor = small_source(&s, "x");
  failing allocator = {INT_MAX, 0};
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.allocator = (cumega_allocator){failing_allocate, failing_release, &allocator};
  cumega_context *ctx;
  ck_assert_int_eq(cumega_context_create(&options, &ctx), CUMEGA_OK);
  int before = allocator.live, failures = 0;
  cumega_status status = CUMEGA_ERROR_RESOURCE;
  for (int n = 0; status != CUMEGA_OK; n++, failures++) {
    allocator.calls_left = n;
    status = cumega_weights_save(ctx, files.path, &tensor, 1, NULL, 0);
    ck_assert(status == CUMEGA_OK || status == CUMEGA_ERROR_RESOURCE);
    ck_assert_int_eq(status == CUMEGA_OK, cumega_context_message(ctx)[0] == '\0');
    ck_assert_int_eq(files_in_folder(&files, 0), status == CUMEGA_OK);
    ck_assert_int_eq(allocator.live, before);
  }
  ck_assert_int_ge(failures, 3);
  cumega_weights *weights = NULL;
  for (int n = failures = 0; weights == NULL; n++, failures++) {
    allocator.calls_left = n;
    status = cumega_weights_open(ctx, files.path, &weights);
    ck_assert_int_eq(status, weights == NULL ? CUMEGA_ERROR_RESOURCE : CUMEGA_OK);
    if (weights == NULL) ck_assert_int_eq(allocator.live, before);
  }
  ck_assert_int_ge(failures, 2);
  allocator.calls_left = INT_MAX;
  cumega_context_destroy(ctx);
  cumega_weights_close(weights);
  ck_assert_int_eq(allocator.live, 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("weights that are saved");
  TCase *tests = add_case(suite, "bytes", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, every_type_is_written_as_the_safetensors_package_does);
  tcase_add_test(tests,
                 scalars_empty_tensors_and_odd_names_are_written_as_the_safetensors_package_does);
  tcase_add_test(tests, a_file_of_nothing_is_written_as_the_safetensors_package_does);
  tcase_add_test(tests, metadata_is_written_in_the_given_order);
  tcase_add_loop_test(tests, strided_tensors_are_gathered_in_row_major_order, 0,
                      (int)(sizeof views / sizeof views[0]));
  tcase_add_test(tests, tensors_larger_than_any_buffer_are_written_whole);
  tests = add_case(suite, "refusals", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, a_tensor_that_cannot_be_saved_is_named);
  tcase_add_test(tests, what_is_given_twice_or_not_at_all_is_refused);
  tcase_add_test(tests, a_header_above_the_limit_is_refused);
  tests = add_case(suite, "files", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, a_place_that_cannot_hold_a_file_is_an_error_with_a_reason);
  tcase_add_test(tests, a_file_replaces_the_old_one_under_the_umask_and_leaves_nothing_else);
  tcase_add_test(tests, a_file_in_the_working_directory_needs_no_folder_in_its_path);
  tcase_add_test(tests, the_new_file_is_made_beside_its_place);
  tcase_add_test(tests, a_symbolic_link_stays_one_and_its_file_is_replaced);
  tcase_add_test(tests, a_write_that_fails_keeps_the_old_file);
  tcase_add_test(tests, memory_that_runs_out_is_a_status_and_leaks_nothing);
  return run_suite(suite);
}
