/* Gradient descent on the squared loss of a network with two hidden layers: about as fast as the
 * machine goes on one core without a tuned matrix library.  compare.py compiles it with the sizes
 * as constants (N samples, D inputs, P = N padded to whole vectors, A and B hidden widths, BP = A
 * padded) and calls `descend`.  Parameters are those of plcore: layer by layer, W row by row, b.
 *
 * Layer 1 is kept as its pre-activations, which move by signals times (X X' + 1 1'). */

#include <math.h>
#include <string.h>

#define S 0.1
#define LOG2 0.69314718055994530942

typedef double row[P] __attribute__((aligned(64)));

static void activate(int width, row *restrict z, row *restrict h, row *restrict slope)
{
    for (int i = 0; i < width; i++)
        for (int j = 0; j < P; j++) {
            double total = 1 + exp(z[i][j]);
            h[i][j] = S * z[i][j] + (1 - S) * (log(total) - LOG2);
            slope[i][j] = 1 - (1 - S) / total;
        }
}

/* G (P x P) is the Gram matrix, zero beyond N; losses has steps + 1 entries. */
static void one_run(long steps, double rate, row *restrict G, const double *restrict X,
                    const double *restrict y, double *restrict w, double *restrict losses)
{
    static row z1[A], h1[A], s1[A], g1[A], moved[A], z2[B], h2[B], s2[B], g2[B];
    static row f, e;
    static double W2[B][BP] __attribute__((aligned(64))), h1t[N][BP] __attribute__((aligned(64)));
    static double g2t[N][B], b2[B], W3[B], b3;
    double *first = w, *second = w + A * (D + 1), *third = second + B * (A + 1);

    memset(moved, 0, sizeof moved);
    memset(z1, 0, sizeof z1);
    memset(W2, 0, sizeof W2);
    memset(h1t, 0, sizeof h1t);
    for (int i = 0; i < A; i++)
        for (int j = 0; j < N; j++) {
            double sum = first[A * D + i];
            for (int k = 0; k < D; k++)
                sum += first[i * D + k] * X[j * D + k];
            z1[i][j] = sum;
        }
    for (int i = 0; i < B; i++) {
        for (int k = 0; k < A; k++)
            W2[i][k] = second[i * A + k];
        b2[i] = second[B * A + i];
        W3[i] = third[i];
    }
    b3 = third[B];

    for (long step = 0; step <= steps; step++) {
        activate(A, z1, h1, s1);
        for (int i = 0; i < B; i++) {
            double z[P];
            for (int j = 0; j < P; j++)
                z[j] = b2[i];
            for (int k = 0; k < A; k++)
                for (int j = 0; j < P; j++)
                    z[j] += W2[i][k] * h1[k][j];
            memcpy(z2[i], z, sizeof z);
        }
        activate(B, z2, h2, s2);
        for (int j = 0; j < P; j++)
            f[j] = b3;
        for (int i = 0; i < B; i++)
            for (int j = 0; j < P; j++)
                f[j] += W3[i] * h2[i][j];
        double sum = 0;
        for (int j = 0; j < P; j++) {
            double residual = j < N ? f[j] - y[j] : 0;
            sum += residual * residual;
            e[j] = rate * 2 / N * residual;
        }
        losses[step] = sum / N;
        if (step == steps)
            break;
        for (int i = 0; i < B; i++) {
            double to_W3 = 0, to_b2 = 0;
            for (int j = 0; j < P; j++) {
                g2[i][j] = s2[i][j] * W3[i] * e[j];
                to_W3 += e[j] * h2[i][j];
                to_b2 += g2[i][j];
            }
            W3[i] -= to_W3;
            b2[i] -= to_b2;
        }
        for (int j = 0; j < P; j++)
            b3 -= e[j];
        for (int k = 0; k < A; k++) {
            double back[P] = {0};
            for (int i = 0; i < B; i++)
                for (int j = 0; j < P; j++)
                    back[j] += W2[i][k] * g2[i][j];
            for (int j = 0; j < P; j++)
                g1[k][j] = s1[k][j] * back[j];
        }
        for (int k = 0; k < A; k++)
            for (int j = 0; j < N; j++)
                h1t[j][k] = h1[k][j];
        for (int i = 0; i < B; i++)
            for (int j = 0; j < N; j++)
                g2t[j][i] = g2[i][j];
        for (int i = 0; i < B; i++) {
            double to_W2[BP] = {0};
            for (int j = 0; j < N; j++)
                for (int k = 0; k < BP; k++)
                    to_W2[k] += g2t[j][i] * h1t[j][k];
            for (int k = 0; k < BP; k++)
                W2[i][k] -= to_W2[k];
        }
        for (int i = 0; i < A; i++) {
            double step1[P] = {0};
            for (int k = 0; k < N; k++)
                for (int j = 0; j < P; j++)
                    step1[j] += g1[i][k] * G[k][j];
            for (int j = 0; j < P; j++) {
                z1[i][j] -= step1[j];
                moved[i][j] += g1[i][j];
            }
        }
    }

    for (int i = 0; i < A; i++)
        for (int j = 0; j < N; j++) {
            for (int k = 0; k < D; k++)
                first[i * D + k] -= moved[i][j] * X[j * D + k];
            first[A * D + i] -= moved[i][j];
        }
    for (int i = 0; i < B; i++) {
        for (int k = 0; k < A; k++)
            second[i * A + k] = W2[i][k];
        second[B * A + i] = b2[i];
        third[i] = W3[i];
    }
    third[B] = b3;
}

void descend(long runs, long steps, double rate, const double *X, const double *y, double *w,
             double *losses)
{
    static row G[P];

    memset(G, 0, sizeof G);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double sum = 1;
            for (int k = 0; k < D; k++)
                sum += X[i * D + k] * X[j * D + k];
            G[i][j] = sum;
        }
    for (long run = 0; run < runs; run++)
        one_run(steps, rate, G, X, y, w + run * (A * (D + 1) + B * (A + 1) + B + 1),
                losses + run * (steps + 1));
}
