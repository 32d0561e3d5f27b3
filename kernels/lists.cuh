// Lists of contributions to a pixel, linked in whatever order and sorted before they are summed, so that a sum has
// always the same bits: `next[c]` is the contribution after c, or -1.
#pragma once

// Cuts a list of contributions behind its first ascending run; returns the rest.
__device__ int cut_run(int* next, int entry) {
    while (next[entry] > entry) entry = next[entry];
    int rest = next[entry];
    next[entry] = -1;
    return rest;
}

// Puts a list in the order of its contributions, in place; returns its head. A natural merge sort: a pass over the
// list, and one more for each time that the number of ascending runs doubles.
__device__ int sort_list(int* next, int head) {
    // A list grows at its front, so that points which come in order stand in reverse.
    int list = -1;
    while (head >= 0) {
        int rest = next[head];
        next[head] = list, list = head, head = rest;
    }
    for (int merges = 2; merges > 1;) {
        int rest = list, tail = -1;
        for (merges = 0; rest >= 0; merges++) {
            int a = rest, b = cut_run(next, a);
            rest = b < 0 ? -1 : cut_run(next, b);
            while (a >= 0 || b >= 0) {
                // As unsigned numbers, the end of a list comes after all contributions.
                int entry = unsigned(a) < unsigned(b) ? a : b;
                (entry == a ? a : b) = next[entry];
                if (tail < 0) list = entry;
                else next[tail] = entry;
                tail = entry;
            }
        }
        next[tail] = -1;
    }
    return list;
}
