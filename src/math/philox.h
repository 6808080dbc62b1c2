/* Random numbers as a pure function of seed, stream and index: Philox4x32-10 (Salmon, Moraes, Dror
 * and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) and Box-Muller on top of it.
 * Threads may compute them in any order and get the same bits. */
#ifndef CUMEGA_SRC_MATH_PHILOX_H
#define CUMEGA_SRC_MATH_PHILOX_H

#include "elementary_f64.h"

CUMEGA_MATH void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    uint64_t product0 = (uint64_t)0xd2511f53u * c0;
    uint64_t product1 = (uint64_t)0xcd9e8d57u * c2;
    c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
    c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)product1;
    c3 = (uint32_t)product0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/* k * 2^-53, where k - 1 is the top 53 of 64 bits (high word first): k = 1 .. 2^53, never 0. */
CUMEGA_MATH double math_uniform(uint32_t high, uint32_t low) {
  uint64_t bits = ((uint64_t)high << 32 | low) >> 11;
  return (double)(int64_t)(bits + 1) * 0x1p-53;
}

/* Two independent standard normals: u from bits[0], bits[1] gives the radius sqrt(-2 log u), which
 * is at most 8.6, and u' from bits[2], bits[3] the angle 2 pi u'. */
CUMEGA_MATH void normal_pair(const uint32_t bits[4], double out[2]) {
  double radius = MATH_SQRT(-2.0 * math_log(math_uniform(bits[0], bits[1])));
  double angle = 0x1.921fb54442d18p2 * math_uniform(bits[2], bits[3]);
  out[0] = radius * math_cos(angle);
  out[1] = radius * math_sin(angle);
}

/* The index-th standard normal of a stream of random numbers. The key is the seed. The counter's
 * low half is index / 2, because numbers come in pairs, and its high half is the stream. Low words
 * come first. */
CUMEGA_MATH double normal_at(uint64_t seed, uint64_t stream, uint64_t index) {
  uint64_t pair = index >> 1;
  uint32_t counter[4] = {(uint32_t)pair, (uint32_t)(pair >> 32), (uint32_t)stream,
                         (uint32_t)(stream >> 32)};
  uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  uint32_t bits[4];
  double normals[2];
  philox4x32(counter, key, bits);
  normal_pair(bits, normals);
  return (index & 1u) != 0 ? normals[1] : normals[0];
}

#endif
