package android.os;

public class Process {
    public static final int THREAD_PRIORITY_AUDIO = -16;
    public static final int THREAD_PRIORITY_URGENT_AUDIO = -19;

    public static final native long getStartElapsedRealtime();

    public static final native void setThreadPriority(int priority);
}
