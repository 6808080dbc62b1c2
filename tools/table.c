#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "table.h"

table_row *table_add(table *t) {
  table_row *rows = realloc(t->rows, (size_t)(t->count + 1) * sizeof *rows);
  if (rows == NULL) return NULL;
  t->rows = rows;
  memset(&rows[t->count], 0, sizeof *rows);
  return &rows[t->count++];
}

void table_print(const table *t) {
  size_t widths[TABLE_COLUMNS] = {0};
  int columns = 0;
  while (t->count > 0 && columns < TABLE_COLUMNS && t->rows[0][columns][0] != '\0') columns++;
  for (int r = 0; r < t->count; r++)
    for (int c = 0; c < columns; c++)
      if (strlen(t->rows[r][c]) > widths[c]) widths[c] = strlen(t->rows[r][c]);
  for (int r = 0; r < t->count; r++)
    for (int c = 0; c < columns; c++)
      if (c + 1 < columns)
        printf("%-*s  ", (int)widths[c], t->rows[r][c]);
      else
        printf("%s\n", t->rows[r][c]);
}

void table_free(table *t) {
  free(t->rows);
  t->rows = NULL;
  t->count = 0;
}
