package android.os;

public class Build {
    public static final String FINGERPRINT = text();
    public static final String MANUFACTURER = text();
    public static final String MODEL = text();
    public static final String SOC_MODEL = text();
    public static final String[] SUPPORTED_ABIS = {text()};

    public static class VERSION {
        public static final String RELEASE = Build.text();
        public static final int SDK_INT = Build.zero();
    }

    private static int zero() {
        return 0;
    }

    private static String text() {
        return "";
    }
}
