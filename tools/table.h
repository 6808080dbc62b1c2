/* A table of text whose columns are as wide as their widest cell, on a terminal and in a pipe. */
#ifndef CUMEGA_TOOLS_TABLE_H
#define CUMEGA_TOOLS_TABLE_H

#define TABLE_COLUMNS 12
#define TABLE_CELL    96

typedef char table_row[TABLE_COLUMNS][TABLE_CELL];

typedef struct table {
  table_row *rows; /* the first is the heading; its first empty cell ends the columns */
  int count;
} table;

/* Adds an empty row, valid until the next one is added. NULL if memory is short. */
table_row *table_add(table *t);
void table_print(const table *t);
void table_free(table *t);

#endif
