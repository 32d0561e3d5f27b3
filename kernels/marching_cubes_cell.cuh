// A cell whose signs leave the surface open: as src/mesh/marching_cubes/{tables,cell,polygon}.rs, whose docs say why,
// operation by operation, so that both decide alike.
#pragma once

#include "exact.cuh"
#include "marching_cubes_tables.cuh"

constexpr int EDGES = 12;
// Vertices within a cell: the waist of a tube between loops of nine and three edges.
constexpr int MAX_CENTRES = 9;
// That tube again: nine and nine triangles before its waist, nine and three behind it.
constexpr int MAX_TRIANGLES = 30;
// Slices between at most four crossings and two roots of the saddle.
constexpr int MAX_SLICES = 7;
// Slots for the nodes of the connectivity: the corners of the cell, then those of the slices.
constexpr int NODES = 8 + 4 * MAX_SLICES;

__device__ inline double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }

struct Patch {
    // Of the edges (unset where the surface does not cross), then within the cell; cell units.
    Vector<double> points[EDGES + MAX_CENTRES];
    int point_count = EDGES;
    // Three vertices of eight bits.
    unsigned triangles[MAX_TRIANGLES];
    int triangle_count = 0;

    __device__ void triangle(unsigned a, unsigned b, unsigned c) {
        triangles[triangle_count++] = a | b << 8 | c << 16;
    }

    __device__ unsigned point(Vector<double> p) {
        points[point_count] = p;
        return point_count++;
    }
};

// A closed polygon on the faces of the cell.
struct Loop {
    const unsigned char* edges;
    int length;
};

__device__ inline bool is_inside(unsigned pattern, int corner) { return (pattern >> corner & 1u) != 0; }

__device__ inline bool is_ambiguous(unsigned pattern, int face) {
    const unsigned char* c = FACE_CORNERS[face];
    bool first = is_inside(pattern, c[0]), second = is_inside(pattern, c[1]);
    return first == is_inside(pattern, c[2]) && second == is_inside(pattern, c[3]) && first != second;
}

// Bit `f` is set where the inside corners of the ambiguous face `f` are joined: where the saddle of the bilinear
// interpolant is inside.
__device__ inline unsigned joined_faces(unsigned pattern, const double d[8]) {
    unsigned joined = 0;
    for (int face = 0; face < 6; face++) {
        if (!is_ambiguous(pattern, face)) continue;
        const unsigned char* c = FACE_CORNERS[face];
        double even = mul(d[c[0]], d[c[2]]), odd = mul(d[c[1]], d[c[3]]);
        bool first_inside = d[c[0]] < 0.0;
        if (first_inside ? even > odd : odd > even) joined |= 1u << face;
    }
    return joined;
}

// The polygons in which the surface meets the faces of the cell.
struct Loops {
    unsigned char edges[EDGES];
    int ends[4];
    int count = 0;

    __device__ Loop get(int index) const {
        int start = index == 0 ? 0 : ends[index - 1];
        return {edges + start, ends[index] - start};
    }

    __device__ void trace(unsigned pattern, unsigned joined) {
        unsigned char next[EDGES];
        successors(pattern, joined, next);
        unsigned remaining = 0;
        for (int edge = 0; edge < EDGES; edge++) {
            bool crossed = is_inside(pattern, EDGE_CORNERS[edge][0]) != is_inside(pattern, EDGE_CORNERS[edge][1]);
            remaining |= unsigned(crossed) << edge;
        }
        int length = 0;
        while (remaining != 0) {
            int first = __ffs(remaining) - 1, edge = first;
            do {
                edges[length++] = edge;
                remaining &= ~(1u << edge);
                edge = next[edge];
            } while (edge != first);
            ends[count++] = length;
        }
    }

    // For each crossed edge the edge at the other end of the contour line that starts there.
    __device__ static void successors(unsigned pattern, unsigned joined, unsigned char next[EDGES]) {
        for (int face = 0; face < 6; face++) {
            const unsigned char* corners = FACE_CORNERS[face];
            auto inside = [&](int i) { return is_inside(pattern, corners[i % 4]); };
            bool around_outside = (joined >> face & 1u) != 0 && is_ambiguous(pattern, face);
            for (int start = 0; start < 4; start++) {
                if (inside(start) || !inside(start + 1)) continue;
                int end = start + 3;
                // The line cuts off the outside corner just passed, or the inside corners to come.
                if (!around_outside)
                    for (end = start + 1; !(inside(end) && !inside(end + 1));) end++;
                next[FACE_EDGES[face][start]] = FACE_EDGES[face][end % 4];
            }
        }
    }
};

// Union-find over the corners of the cell and the corners of its slices.
struct Regions {
    unsigned char parent[NODES];

    __device__ int root_of(int node) const {
        while (parent[node] != node) node = parent[node];
        return node;
    }

    __device__ void join(int a, int b) {
        a = root_of(a), b = root_of(b);
        parent[max(a, b)] = min(a, b);
    }

    // The connectivity of the corners along the edges and within the faces.
    __device__ void of_boundary(unsigned pattern, unsigned joined) {
        for (int node = 0; node < NODES; node++) parent[node] = node;
        for (int edge = 0; edge < EDGES; edge++) {
            int a = EDGE_CORNERS[edge][0], b = EDGE_CORNERS[edge][1];
            if (is_inside(pattern, a) == is_inside(pattern, b)) join(a, b);
        }
        for (int face = 0; face < 6; face++) {
            if (!is_ambiguous(pattern, face)) continue;
            int first_inside = is_inside(pattern, FACE_CORNERS[face][0]) ? 0 : 1;
            int start = (joined >> face & 1u) != 0 ? first_inside : 1 - first_inside;
            join(FACE_CORNERS[face][start], FACE_CORNERS[face][start + 2]);
        }
    }

    // Adds what is connected within the slice at t. `nodes`: of its four corners.
    __device__ void join_slice(const double d[8], double t, unsigned inside, int nodes) {
        auto is_in = [&](int line) { return (inside >> line & 1u) != 0; };
        if (is_in(0) == is_in(1)) join(nodes, nodes + 1);
        if (is_in(0) == is_in(2)) join(nodes, nodes + 2);
        if (is_in(1) == is_in(3)) join(nodes + 1, nodes + 3);
        if (is_in(2) == is_in(3)) join(nodes + 2, nodes + 3);
        if (is_in(0) != is_in(3) || is_in(1) != is_in(2) || is_in(0) == is_in(1)) return;
        auto at = [&](int line) { return add(d[line], mul(t, sub(d[line + 4], d[line]))); };
        double straight = mul(at(0), at(3)), crosswise = mul(at(1), at(2));
        bool join_straight = is_in(0) ? straight > crosswise : !(crosswise > straight);
        if (join_straight) join(nodes, nodes + 3);
        else join(nodes + 1, nodes + 2);
    }

    // Adds what is connected through the interior, by a sweep along z.
    __device__ void join_inside(const double d[8]) {
        double crossings[4], events[MAX_SLICES + 1];
        int count = sweep_events(d, crossings, events);
        int before = -1;
        unsigned inside_before = 0;
        for (int line = 0; line < 4; line++) inside_before |= unsigned(d[line] < 0.0) << line;
        auto node_before = [&](int line) { return before < 0 ? line : before + line; };
        for (int slice = 0; slice < count - 1; slice++) {
            double t = mul(0.5, add(events[slice], events[slice + 1]));
            unsigned inside = 0;
            int nodes = 8 + 4 * slice;
            for (int line = 0; line < 4; line++) {
                inside |= unsigned((t < crossings[line] ? d[line] : d[line + 4]) < 0.0) << line;
                if (((inside ^ inside_before) >> line & 1u) == 0) join(nodes + line, node_before(line));
            }
            join_slice(d, t, inside, nodes);
            before = nodes, inside_before = inside;
        }
        for (int line = 0; line < 4; line++)
            if (((inside_before >> line & 1u) != 0) == (d[line + 4] < 0.0)) join(node_before(line), line + 4);
    }

    // Where each vertical edge changes its sign (past 1 where it does not), and the sorted heights at which a slice
    // changes, from 0 to 1; returns their number.
    __device__ static int sweep_events(const double d[8], double crossings[4], double events[MAX_SLICES + 1]) {
        int count = 1;
        events[0] = 0.0;
        // Inserted in order.
        auto insert = [&](double t) {
            if (!(t > 0.0 && t < 1.0)) return;
            int i = count++;
            for (; events[i - 1] > t; i--) events[i] = events[i - 1];
            events[i] = t;
        };
        double s[4];
        for (int line = 0; line < 4; line++) {
            double low = d[line], high = d[line + 4];
            crossings[line] = (low < 0.0) == (high < 0.0) ? 2.0 : quotient(low, sub(low, high));
            s[line] = sub(high, low);
            insert(crossings[line]);
        }
        // The saddle of the slice is on the level where d0 d3 = d1 d2, quadratic in z.
        double square = sub(mul(s[0], s[3]), mul(s[1], s[2]));
        double linear = sub(sub(add(mul(d[0], s[3]), mul(d[3], s[0])), mul(d[1], s[2])), mul(d[2], s[1]));
        double constant = sub(mul(d[0], d[3]), mul(d[1], d[2]));
        double discriminant = sub(mul(linear, linear), mul(mul(4.0, square), constant));
        if (discriminant > 0.0) {
            double q = mul(-0.5, add(linear, copysign(root(discriminant), linear)));
            insert(quotient(q, square));
            insert(quotient(constant, q));
        }
        events[count] = 1.0;
        return count + 1;
    }
};

__device__ inline unsigned faces_of(unsigned vertex) { return vertex < EDGES ? EDGE_FACES[vertex] : 0u; }

// The cost of a side within the cell: its squared length, infinite where it lies in a face.
__device__ inline double side_cost(const Patch& patch, unsigned a, unsigned b) {
    if ((faces_of(a) & faces_of(b)) != 0) return infinity();
    Vector<double> d = patch.points[a] - patch.points[b];
    return dot(d, d);
}

// Triangulates a loop without new vertices, with the shortest diagonals. False, and nothing added, where no
// triangulation avoids the faces.
__device__ inline bool disc_of_loop(Loop loop, Patch& patch) {
    int n = loop.length;
    double cost[EDGES][EDGES];
    unsigned char apex[EDGES][EDGES];
    for (int i = 0; i + 1 < n; i++) cost[i][i + 1] = 0.0;
    for (int span = 2; span < n; span++) {
        for (int i = 0; i < n - span; i++) {
            int j = i + span, middle = 0;
            double best = infinity();
            for (int k = i + 1; k < j; k++) {
                double sum = add(cost[i][k], cost[k][j]);
                if (sum < best) best = sum, middle = k;
            }
            double side = span == n - 1 ? 0.0 : side_cost(patch, loop.edges[i], loop.edges[j]);
            cost[i][j] = add(best, side);
            apex[i][j] = middle;
        }
    }
    if (cost[0][n - 1] == infinity()) return false;
    unsigned char open[EDGES][2] = {{0, (unsigned char)(n - 1)}};
    for (int depth = 1; depth > 0;) {
        int i = open[--depth][0], j = open[depth][1];
        if (j - i < 2) continue;
        int k = apex[i][j];
        patch.triangle(loop.edges[i], loop.edges[k], loop.edges[j]);
        open[depth][0] = i, open[depth++][1] = k;
        open[depth][0] = k, open[depth++][1] = j;
    }
    return true;
}

// A walk around two loops, forwards along `a`, backwards along `b`. Bit `s` of `steps` is set where step `s` is along
// `b`.
struct Strip {
    Loop a, b;
    int start_a = 0, start_b = 0;
    unsigned steps = 0;

    __device__ unsigned of_a(int i) const { return a.edges[(start_a + i) % a.length]; }
    __device__ unsigned of_b(int j) const { return b.edges[(start_b + b.length - j % b.length) % b.length]; }

    // The least cost from these starts, and its steps.
    __device__ double shortest(const Patch& patch) {
        int n = a.length, m = b.length;
        double cost[EDGES][EDGES];
        unsigned short along_b[EDGES];
        for (int i = 0; i <= n; i++) {
            along_b[i] = 0;
            for (int j = 0; j <= m; j++) {
                cost[i][j] = infinity();
                // (n, 0) is the first side again; the first step is along a, the last along b.
                if ((i == n && j == 0) || (i == 0 && j > 0) || (j == m && i < n)) continue;
                double from_a = i > 0 && !(i == n && j == m) ? cost[i - 1][j] : infinity();
                double from_b = j > 0 ? cost[i][j - 1] : infinity();
                double before = i == 0 && j == 0 ? 0.0 : smaller(from_a, from_b);
                cost[i][j] = add(before, side_cost(patch, of_a(i), of_b(j)));
                if (from_b < from_a) along_b[i] |= 1u << j;
            }
        }
        steps = 0;
        if (cost[n][m] == infinity()) return infinity();
        for (int i = n, j = m; i > 0 || j > 0;) {
            if ((along_b[i] >> j & 1u) != 0) steps |= 1u << (i + --j);
            else i--;
        }
        return cost[n][m];
    }

    __device__ void emit(Patch& patch) const {
        for (int step = 0, i = 0, j = 0; step < a.length + b.length; step++) {
            unsigned p = of_a(i), q = of_b(j);
            if ((steps >> step & 1u) != 0) patch.triangle(p, of_b(++j), q);
            else patch.triangle(p, of_a(++i), q);
        }
    }
};

// The strip of triangles between two loops that bound a tube, with the shortest sides. False, and nothing added, where
// none avoids the faces.
__device__ inline bool strip_between(Loop a, Loop b, Patch& patch) {
    Strip best = {a, b};
    double least = infinity();
    for (int start_a = 0; start_a < a.length; start_a++) {
        for (int start_b = 0; start_b < b.length; start_b++) {
            Strip strip = {a, b, start_a, start_b};
            double cost = strip.shortest(patch);
            if (cost < least) least = cost, best = strip;
        }
    }
    if (least == infinity()) return false;
    best.emit(patch);
    return true;
}

// The mean of the vertices of one loop, or of two (`b` may be empty).
__device__ inline Vector<double> mean_of(Loop a, Loop b, const Patch& patch) {
    Vector<double> sum = {0.0, 0.0, 0.0};
    for (int i = 0; i < a.length; i++) sum = sum + patch.points[a.edges[i]];
    for (int i = 0; i < b.length; i++) sum = sum + patch.points[b.edges[i]];
    double count = double(a.length + b.length);
    return {quotient(sum.x, count), quotient(sum.y, count), quotient(sum.z, count)};
}

__device__ inline void disc(Loop loop, Patch& patch) {
    if (disc_of_loop(loop, patch)) return;
    unsigned centre = patch.point(mean_of(loop, {nullptr, 0}, patch));
    for (int i = 0; i < loop.length; i++)
        patch.triangle(loop.edges[i], loop.edges[(i + 1) % loop.length], centre);
}

// A tube between two loops, by way of a waist where their own vertices do not do.
__device__ inline void tube(Loop a, Loop b, Patch& patch) {
    if (strip_between(a, b, patch)) return;
    Vector<double> middle = mean_of(a, b, patch);
    unsigned char waist[EDGES], reversed[EDGES];
    for (int i = 0; i < a.length; i++) {
        Vector<double> p = patch.points[a.edges[i]];
        waist[i] = patch.point((p + middle) * 0.5);
        reversed[a.length - 1 - i] = waist[i];
    }
    strip_between({waist, a.length}, b, patch);
    strip_between(a, {reversed, a.length}, patch);
}

// The triangles of a cell with corner values `d` above the level (negative inside), whose edge vertices are in
// `patch.points`.
__device__ inline void polygonise(const double d[8], Patch& patch) {
    unsigned pattern = 0;
    for (int corner = 0; corner < 8; corner++) pattern |= unsigned(d[corner] < 0.0) << corner;
    unsigned joined = joined_faces(pattern, d);
    Loops loops;
    loops.trace(pattern, joined);
    Regions regions;
    regions.of_boundary(pattern, joined);
    if (loops.count > 1) regions.join_inside(d);
    int inner[4], outer[4];
    for (int index = 0; index < loops.count; index++) {
        const unsigned char* ends = EDGE_CORNERS[loops.get(index).edges[0]];
        int inside = d[ends[0]] < 0.0 ? 0 : 1;
        inner[index] = regions.root_of(ends[inside]);
        outer[index] = regions.root_of(ends[1 - inside]);
    }
    unsigned done = 0;
    for (int first = 0; first < loops.count; first++) {
        if ((done >> first & 1u) != 0) continue;
        int other = first + 1;
        while (other < loops.count
               && ((done >> other & 1u) != 0 || inner[other] != inner[first] || outer[other] != outer[first]))
            other++;
        if (other < loops.count) {
            done |= 1u << other;
            tube(loops.get(first), loops.get(other), patch);
        } else {
            disc(loops.get(first), patch);
        }
    }
}
